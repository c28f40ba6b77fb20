"""The bytes of an HTTP/1.1 answer to its head and its body (RFC 9112), as fast as Python can.

h11 takes many times as long, which would be most of what a proxied request costs. What is
ambiguous, as lengths that differ, or old, as folded headers, is no answer.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from ..message import Headers

HEAD = 65536  # bytes of a head, or of trailers
SIZE_LINE = 4096  # bytes of a chunk's size and its extensions
INFORMED = 20  # informational heads before an answer's own
END_OF_HEAD = re.compile(rb"\n\r?\n")
STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: [^\0\r\n]*)?\r?\n")
HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\0\r\n]*?)[ \t]*\r?\n")
SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\0\r\n]*)?\r?\n")
NUMBER = re.compile(rb"\d{1,18}")
BODILESS = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Head:
    """An answer's head; `keeps`: its connection may take another request."""

    status: int
    headers: Headers
    keeps: bool


Item = Head | bytes  # no bytes are the end


class ResponseReader:
    """A reader of one answer, fed what comes; what it finds is added to `items`.

    Raises a ValueError that says what is wrong. The answer to a `tunnel`'s request has no body.
    """

    def __init__(self, items: "list[Item]", tunnel: bool = False) -> None:
        self._items, self._tunnel = items, tunnel
        self._rest = bytearray()
        self._scanned = self._informed = self._left = self._trailing = 0
        self._step: Callable[[], bool] = self._head
        self.over = self.keeps = False

    def feed(self, data: bytes) -> None:
        self._rest += data
        while self._rest and self._step():
            pass

    def end(self) -> None:
        """Take the end of the connection."""
        if self._step == self._until_closed:
            self._finish()
        elif not self.over:
            raise ValueError("the connection was closed before it was whole")

    def _head(self) -> bool:
        end = END_OF_HEAD.search(self._rest, max(self._scanned - 2, 0))
        if (len(self._rest) if end is None else end.end()) > HEAD:
            raise ValueError("its head is too long")
        if end is None:
            self._scanned = len(self._rest)
            return False
        self._scanned, block = 0, bytes(self._rest[: end.end()])
        del self._rest[: end.end()]
        if (status := STATUS.match(block)) is None:
            raise ValueError("it does not begin like HTTP")
        code = int(status[2])
        if code < 200:
            self._informed += 1
            if code == 101 or self._informed > INFORMED:
                raise ValueError("it sent no head")
            return True
        headers = _headers(block, status.end())
        self._frame(code, headers, status[1] == b"1")
        return True

    def _frame(self, status: int, headers: Headers, recent: bool) -> None:
        """Find out how long the body is."""
        encoding, length, options = (_values(headers, name) for name in FRAMING)
        self.keeps = b"close" not in options if recent else b"keep-alive" in options
        if self._tunnel or status in BODILESS:
            self._left, self._step = 0, self._counted
        elif encoding:
            if encoding != [b"chunked"]:
                raise ValueError("its transfer encoding is unknown")
            self.keeps = self.keeps and not length
            self._step = self._size
        elif length:
            if len(set(length)) > 1 or not NUMBER.fullmatch(length[0]):
                raise ValueError("its length is no number")
            self._left, self._step = int(length[0]), self._counted
        else:
            self.keeps, self._step = False, self._until_closed
        self._items.append(Head(status, headers, self.keeps))
        if self._step == self._counted and not self._left:
            self._finish()

    def _counted(self) -> bool:
        self._give()
        if not self._left:
            self._finish()
        return True

    def _size(self) -> bool:
        end = self._rest.find(b"\n") + 1
        if (end or len(self._rest)) > SIZE_LINE:
            raise ValueError("a chunk's size is too long")
        if not end:
            return False
        if (size := SIZE.fullmatch(self._rest, 0, end)) is None:
            raise ValueError("a chunk has no size")
        self._left = int(size[1], 16)
        del size, self._rest[:end]
        self._step = self._chunk if self._left else self._trailers
        return True

    def _chunk(self) -> bool:
        self._give()
        if not self._left:
            self._step = self._end_of_chunk
        return True

    def _end_of_chunk(self) -> bool:
        if self._rest == b"\r":
            return False
        end = 1 + self._rest.startswith(b"\r\n")
        if self._rest[end - 1] != 10:
            raise ValueError("a chunk is longer than it says")
        del self._rest[:end]
        self._step = self._size
        return True

    def _trailers(self) -> bool:
        end = self._rest.find(b"\n") + 1
        if self._trailing + (end or len(self._rest)) > HEAD:
            raise ValueError("its trailers are too long")
        if not end:
            return False
        blank = not self._rest[:end].strip(b"\r\n")
        del self._rest[:end]
        self._trailing += end
        if blank:
            self._finish()
        return True

    def _until_closed(self) -> bool:
        self._left = len(self._rest)
        self._give()
        return False

    def _more(self) -> bool:
        raise ValueError("it sent more than was asked for")

    def _give(self) -> None:
        """Give out what is here of the bytes that are left."""
        piece = bytes(self._rest[: self._left])
        del self._rest[: len(piece)]
        self._left -= len(piece)
        self._items.append(piece)

    def _finish(self) -> None:
        self.over, self._step = True, self._more
        self._items.append(b"")


FRAMING = (b"transfer-encoding", b"content-length", b"connection")


def _headers(block: bytes, at: int) -> Headers:
    """Return the headers, with names in lower case, that stand before an empty line."""
    headers: list[tuple[bytes, bytes]] = []
    while (header := HEADER.match(block, at)) is not None:
        headers.append((header[1].lower(), header[2]))
        at = header.end()
    if block[at:].strip(b"\r\n"):
        raise ValueError("a header of it is malformed")
    return tuple(headers)


def _values(headers: Headers, wanted: bytes) -> list[bytes]:
    """Return the members of a header that is a list, in lower case."""
    return [
        member
        for name, value in headers
        if name == wanted
        for each in value.split(b",")
        if (member := each.strip().lower())
    ]
