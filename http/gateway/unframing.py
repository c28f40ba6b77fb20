"""Bytes of a stream to its events: the inverse of http/framing.py, fed pieces of any size."""

import codecs
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from ...translate.dialect import ServerEvent

LARGEST = 2**25  # bytes of an event: images come in them


class Unframer(Protocol):
    """A stream's bytes, piece by piece, as events; ValueError for an event that is too large."""

    def feed(self, piece: bytes) -> Sequence[ServerEvent]: ...

    def end(self) -> Sequence[ServerEvent]:
        """Return what a stream that has ended has left, where the last event has no end."""
        ...


class ServerSentEvents:
    """Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    Other than there, an event counts whose blank line is missing at the end of a stream: some
    servers leave it out. Comments, ids and retry times say nothing here.
    """

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest = largest
        self._rest = bytearray()  # a line without its end
        self._data: list[bytes] = []
        self._name = ""
        self._size = 0  # of the event so far
        self._returned = False  # a line ended in CR, to which an LF may belong
        self._begun = False

    def feed(self, piece: bytes) -> Sequence[ServerEvent]:
        if not piece:
            return ()
        if self._returned:
            piece = piece.removeprefix(b"\n")
        events: list[ServerEvent] = []
        for line in piece.splitlines(keepends=True):
            self._grow(len(line))
            text = line.rstrip(b"\r\n")
            if len(text) == len(line):
                self._rest += line
                break
            if self._rest:
                text, self._rest = bytes(self._rest + text), bytearray()
            self._take(text, events)
        self._returned = piece.endswith(b"\r")
        return events

    def end(self) -> Sequence[ServerEvent]:
        events: list[ServerEvent] = []
        for text in (bytes(self._rest), b""):
            self._take(text, events)
        self._rest = bytearray()
        return events

    def _grow(self, count: int) -> None:
        self._size += count
        if self._size > self._largest:
            raise ValueError(f"an event has over {self._largest} bytes")

    def _take(self, line: bytes, events: list[ServerEvent]) -> None:
        """Take a line; a blank one ends an event."""
        if not self._begun:
            self._begun, line = True, line.removeprefix(codecs.BOM_UTF8)
        if not line:
            if self._data:
                events.append(ServerEvent(b"\n".join(self._data), self._name or None))
            self._data, self._name, self._size = [], "", 0
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        elif not field and not self._data and not self._name:
            self._size = 0  # comments alone are no event, however many


class JsonLines:
    """One JSON document a line; blank lines are none."""

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest = largest
        self._rest = bytearray()

    def feed(self, piece: bytes) -> Sequence[ServerEvent]:
        *lines, rest = piece.split(b"\n")
        if lines:
            lines[0], self._rest = bytes(self._rest + lines[0]), bytearray()
        self._rest += rest
        if len(self._rest) > self._largest:
            raise ValueError(f"a line has over {self._largest} bytes")
        return [ServerEvent(text) for line in lines if (text := line.strip())]

    def end(self) -> Sequence[ServerEvent]:
        return self.feed(b"\n")


UNFRAMERS: Mapping[Literal["sse", "ndjson"], type[ServerSentEvents] | type[JsonLines]] = {
    "sse": ServerSentEvents,
    "ndjson": JsonLines,
}
