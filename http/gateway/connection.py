"""One connection to a provider: an asyncio protocol that holds one exchange at a time.

Rules: nothing is read ahead beyond a few socket reads; an exchange whose answer was not read to its
end closes the connection, which is how a provider learns that nobody waits for it any more; what is
sent while nothing was asked closes it, too.
"""

import asyncio
import math
import ssl
from collections.abc import Callable
from typing import cast

from ...engine.request import Refusal
from ..deadline import Deadline
from .response import Head, Item, ResponseReader

AHEAD = 131072  # bytes that may wait to be read
ROUNDING = 0.002  # seconds: timers count in whole milliseconds


class Connection(asyncio.Protocol):
    """A connection to the provider of this name; `gone` is told of its end while it is idle."""

    def __init__(self, name: str, gone: Callable[["Connection"], None]) -> None:
        self._name, self._gone = name, gone
        self._loop = asyncio.get_running_loop()
        self._deadline = Deadline(self._loop, self._ring)
        self._items: list[Item] = []  # what came and is not read
        self._reader = ResponseReader(self._items)
        self._size = 0  # of what came, since nothing waited
        self._waiter: asyncio.Future[None] | None = None
        self._paused = self._idle = False
        self._refusal: Refusal | None = None  # what the exchange is ended with
        self.heard = False  # whether anything came of the answer
        self.ended = False  # whether nothing more can come

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._idle:  # nobody has asked
            self.close()
            return
        self.heard = True
        try:
            self._reader.feed(data)
        except ValueError as error:
            self._refusal = self._refusal or self.broken(str(error))
        self._size += len(data)
        if self._size > AHEAD and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        if self._items or self._refusal is not None:
            self._wake()

    def eof_received(self) -> bool:
        self._end()
        return False  # the transport closes by itself

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        if self._idle:
            self._gone(self)
            return
        try:
            self._reader.end()
        except ValueError as error:
            self._refusal = self._refusal or self.broken(str(error))
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _ring(self) -> None:
        if self._idle:
            self.close()
        self._wake()

    # The exchange's side.

    def send(self, head: bytes, body: bytes) -> None:
        """Send a whole request."""
        self._begin()
        self._transport.writelines((head, body) if body else (head,))

    def _begin(self, tunnel: bool = False) -> None:
        self._items.clear()
        self._reader = ResponseReader(self._items, tunnel)
        self._size, self._refusal = 0, None
        self._idle = self.heard = False
        self._deadline.clear()

    async def next(self, due: float, beat: float = math.inf) -> Item | None:
        """Return what comes next, no bytes at the end; None if nothing does for `beat` seconds.

        Raises TimeoutError where nothing came until `due`, a Refusal where nothing can.
        """
        while not self._items:
            if self._refusal is not None:
                raise self._refusal
            if self.ended:
                raise self.broken("it has ended")
            if not await self._more(due, beat):
                return None
        item = self._items.pop(0)
        if not self._items:
            self._size = 0
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
        return item

    async def _more(self, due: float, beat: float) -> bool:
        """Wait until something came; return whether it did. Raises TimeoutError."""
        left = due - self._loop.time()
        if left <= ROUNDING:
            raise TimeoutError
        self._waiter = self._loop.create_future()
        self._deadline.set(min(left, beat))
        try:
            await self._waiter
        finally:
            self._waiter = None
        came = self._items or self.ended or self._refusal
        return bool(came) or due - self._loop.time() <= ROUNDING

    def broken(self, why: str) -> Refusal:
        """Return the refusal of an answer of which no more can be had."""
        why = "the connection was closed" if self.ended and not self.heard else why
        return broken_off(self._name, why)

    def rest(self, seconds: float) -> bool:
        """Wait idly for the next exchange, so long; return False where there can be none."""
        reader = self._reader
        whole = reader.over and reader.keeps and not self._items and self._refusal is None
        if not whole or self.ended or self._transport.is_closing():
            return False
        self._idle = True
        self._deadline.set(seconds)
        return True

    def interrupt(self, refusal: Refusal) -> None:
        """End the exchange with this refusal."""
        self._refusal = refusal
        self._items.clear()
        self._wake()

    def close(self) -> None:
        self._deadline.close()
        self._transport.abort()

    # Through a proxy.

    async def secure(self, target: str, host: str, trust: ssl.SSLContext, due: float) -> None:
        """Have a proxy connect to the target, and encrypt what goes through. Raises Refusal."""
        self._begin(tunnel=True)
        self._transport.write(f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n".encode())
        head = await self.next(due)
        if not isinstance(head, Head) or head.status // 100 != 2:
            status = head.status if isinstance(head, Head) else "nothing"
            raise self.broken(f"the proxy answered {status}")
        tls = await self._loop.start_tls(self._transport, self, trust, server_hostname=host)
        self._transport = cast(asyncio.Transport, tls)


def broken_off(name: str, why: str) -> Refusal:
    return Refusal(502, "proxy_error", f"The provider {name!r} broke off its answer: {why}.")


def unreachable(name: str, why: str) -> Refusal:
    """Return the refusal of a request of which nothing was sent."""
    return Refusal(502, "unreachable", f"The provider {name!r} cannot be reached: {why}.")


def late(name: str, what: str, seconds: float) -> Refusal:
    return Refusal(504, "timeout", f"The provider {name!r} {what} for {seconds:g} seconds.")


def no_answer(name: str, why: str) -> Refusal:
    """Return the refusal of what a provider sent that is no answer in its dialect."""
    return Refusal(502, "proxy_error", f"The provider {name!r} sent no answer: {why}.")
