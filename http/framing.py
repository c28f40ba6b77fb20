"""Events of a stream as bytes of a body; what the events say is the dialects' business."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ..translate.dialect import Framing, ServerEvent
from .message import Headers


class Framer(Protocol):
    """The body of one answer: frames, then the end."""

    def frame(self, event: ServerEvent) -> bytes: ...

    def end(self) -> bytes: ...


class ServerSentEvents:
    """https://html.spec.whatwg.org/multipage/server-sent-events.html"""

    def frame(self, event: ServerEvent) -> bytes:
        if event.name is None:
            return b"data: %b\n\n" % event.data
        return b"event: %b\ndata: %b\n\n" % (event.name.encode(), event.data)

    def end(self) -> bytes:
        return b""


class JsonLines:
    """One JSON document a line (https://github.com/ndjson/ndjson-spec)."""

    def frame(self, event: ServerEvent) -> bytes:
        return b"" if event.mark else event.data + b"\n"

    def end(self) -> bytes:
        return b""


class JsonArray:
    """A single JSON document: the list of all events."""

    def __init__(self) -> None:
        self._before = b"["

    def frame(self, event: ServerEvent) -> bytes:
        if event.mark:
            return b""
        before, self._before = self._before, b","
        return before + event.data

    def end(self) -> bytes:
        return b"]" if self._before == b"," else b"[]"


@dataclass(frozen=True, slots=True)
class Frames:
    """A framing: what to say of a body in its header, and what writes one."""

    headers: Headers
    framer: Callable[[], Framer]


def _frames(media_type: bytes, framer: Callable[[], Framer]) -> Frames:
    return Frames(((b"content-type", media_type), (b"cache-control", b"no-cache")), framer)


FRAMINGS: Mapping[Framing, Frames] = {
    "sse": _frames(b"text/event-stream", ServerSentEvents),
    "ndjson": _frames(b"application/x-ndjson", JsonLines),
    "json": _frames(b"application/json", JsonArray),
}
