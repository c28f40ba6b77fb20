"""Framings turn a stream's events into bytes; what the events say is the dialects' business."""

from collections.abc import Mapping
from typing import ClassVar, Protocol

from ..translate.dialect import Framing, ServerEvent


class Framer(Protocol):
    """A framing of one answer's body: frames, then the end, which most have not."""

    media_type: ClassVar[bytes]

    def frame(self, event: ServerEvent) -> bytes: ...

    def end(self) -> bytes:
        return b""


class ServerSentEvents(Framer):
    """Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

    media_type: ClassVar[bytes] = b"text/event-stream; charset=utf-8"

    def frame(self, event: ServerEvent) -> bytes:
        if event.comment:
            return b": %b\n\n" % event.data
        if event.name is None:
            return b"data: %b\n\n" % event.data
        return b"event: %b\ndata: %b\n\n" % (event.name.encode(), event.data)


class JsonLines(Framer):
    """One JSON document a line (https://github.com/ndjson/ndjson-spec)."""

    media_type: ClassVar[bytes] = b"application/x-ndjson"

    def frame(self, event: ServerEvent) -> bytes:
        return b"" if event.mark or event.comment else event.data + b"\n"


class JsonLinesDone(JsonLines):
    """The same, with a last line that says so, as mlx-router has it."""

    def frame(self, event: ServerEvent) -> bytes:
        return b'{"done":true}\n' if event.mark else super().frame(event)


class JsonArray(Framer):
    """A single JSON document: the list of all events."""

    media_type: ClassVar[bytes] = b"application/json"

    def __init__(self) -> None:
        self._before = b"["

    def frame(self, event: ServerEvent) -> bytes:
        if event.mark or event.comment:
            return b""
        before, self._before = self._before, b","
        return before + event.data

    def end(self) -> bytes:
        return b"]" if self._before == b"," else b"[]"


FRAMINGS: Mapping[Framing, type[Framer]] = {
    "sse": ServerSentEvents,
    "ndjson": JsonLines,
    "json_lines": JsonLinesDone,
    "json": JsonArray,
}
