"""The bodies of requests: the memory that they may take, and the codings that they come in."""

import asyncio
import codecs
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import TypeVar, cast

from ..engine.request import Refusal

FREE = 16384  # bytes of each body that nobody counts: small requests pass whatever large ones do
PIECE = 16384  # bytes of a coded body that are looked at together
STEP = 2**18  # bytes that come out of it between two turns of the event loop
MEMBERS = 100  # gzip members in a body (RFC 1952, section 2.2); one is what clients send
CODINGS = frozenset({b"gzip", b"x-gzip", b"deflate"})  # RFC 9110, section 8.4.1
Decoded = TypeVar("Decoded")


class BodyBudget:
    """The bytes that the bodies of all requests may take together until they are decoded."""

    def __init__(self, size: int = sys.maxsize) -> None:
        self._left = size
        self.turn = asyncio.Lock()  # a large body's copies while it is decoded: one at a time
        self.step = asyncio.Lock()  # of undoing a coding: one between two turns of the event loop

    def take(self, count: int) -> None:
        if count > self._left:
            message = "Other requests' bodies fill the memory that they may take; try again."
            raise Refusal(503, "overloaded", message, retry_after=1)
        self._left -= count

    def give(self, count: int) -> None:
        self._left += count


class Body:
    """A request's body, which counts against a budget until it is taken or dropped.

    A large one counts on while it is decoded, and then until it is dropped: what was made of it
    takes as much memory.
    """

    __slots__ = ("_budget", "_counted", "_data", "_dropped")

    def __init__(self, data: bytes = b"", budget: BodyBudget | None = None) -> None:
        self._data = bytearray(data)
        self._budget = budget or BodyBudget()
        self._counted = 0
        self._dropped = False

    def __len__(self) -> int:
        return len(self._data)

    def add(self, piece: bytes, limit: int) -> None:
        """Take what has arrived. Raises Refusal."""
        size = len(self._data) + len(piece)
        if size > limit:
            raise too_large(limit)
        count = max(size - FREE, 0) - self._counted
        self._budget.take(count)
        self._counted += count
        self._data += piece

    def drop(self) -> None:
        self._data, self._dropped = bytearray(), True
        self._budget.give(self._counted)
        self._counted = 0

    def take(self) -> bytes:
        """Return the body, without a byte order mark, and keep nothing of it."""
        data = bytes(self._data)
        self.drop()
        return data.removeprefix(codecs.BOM_UTF8)

    def copy(self) -> bytes:
        """Return the body, without a byte order mark; it counts on."""
        return bytes(self._data).removeprefix(codecs.BOM_UTF8)

    async def decode_apart(self, decode: Callable[[bytes], Decoded]) -> Decoded:
        """Decode off the event loop and in turn, to the end also where the client has gone."""
        return await asyncio.shield(self._decode_in_turn(decode))

    async def _decode_in_turn(self, decode: Callable[[bytes], Decoded]) -> Decoded:
        async with self._budget.turn:
            data, self._data = self._data, bytearray()
            counted, self._counted = self._counted, 0
            try:
                return await asyncio.to_thread(_decode, decode, data)
            finally:
                self._counted += counted
                if self._dropped:
                    self.drop()

    async def inflate(self, coding: bytes, limit: int) -> None:
        """Undo a content coding, giving others their turns. Raises Refusal, also for a bomb."""
        whole = Body(budget=self._budget)
        try:
            for piece in inflated(self._data, coding):
                whole.add(piece, limit)
                async with self._budget.step:
                    await asyncio.sleep(0)
            self._data, whole._data = whole._data, self._data
            self._counted, whole._counted = whole._counted, self._counted
        except zlib.error:
            message = f"The body is not the {coding.decode()} that its Content-Encoding says."
            raise Refusal(400, "invalid_encoding", message) from None
        finally:
            whole.drop()


def _decode(decode: Callable[[bytes], Decoded], data: bytearray) -> Decoded:
    """Decode a body without a copy of it: a bytearray is as good to read."""
    if data.startswith(codecs.BOM_UTF8):
        del data[: len(codecs.BOM_UTF8)]
    return decode(cast(bytes, data))


def inflated(data: bytearray, coding: bytes) -> Iterator[bytes]:
    """Yield what a coded body holds, in bounded steps. Raises zlib.error."""
    bits = window_bits(data, coding)
    decoder, members = zlib.decompressobj(bits), 1
    for start in range(0, len(data), PIECE):
        rest = bytes(data[start : start + PIECE])
        while rest:
            if decoder.eof:
                decoder, members = zlib.decompressobj(bits), members + 1
                if coding == b"deflate" or members > MEMBERS:
                    raise zlib.error("more than one")
            yield decoder.decompress(rest, STEP)
            rest = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
    while not decoder.eof:
        if not (last := decoder.decompress(b"", STEP)):
            raise zlib.error("truncated")
        yield last


def window_bits(data: bytearray, coding: bytes) -> int:
    """Tell zlib what to expect; some clients' deflate lacks the zlib header that it should have."""
    if coding != b"deflate":
        return 16 + zlib.MAX_WBITS
    headed = data[0] & 15 == zlib.DEFLATED and int.from_bytes(data[:2], "big") % 31 == 0
    return zlib.MAX_WBITS if headed else -zlib.MAX_WBITS


def coding_of(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Return the content coding to undo, empty where there is none. Raises Refusal."""
    values = b",".join(value for name, value in headers if name == b"content-encoding")
    codings = [each for part in values.split(b",") if (each := part.strip().lower())]
    codings = [each for each in codings if each != b"identity"]
    if len(codings) > 1 or not CODINGS.issuperset(codings):
        message = "The server takes bodies in gzip, in deflate or as they are (Content-Encoding)."
        raise Refusal(415, "unsupported_encoding", message)
    return codings[0] if codings else b""


def too_large(limit: int) -> Refusal:
    return Refusal(413, "request_too_large", f"The request's body is over {limit} bytes.")
