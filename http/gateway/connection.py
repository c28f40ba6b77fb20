"""One connection to a provider: an asyncio protocol around h11 that holds one exchange at a time.

Rules: nothing is read ahead beyond a few socket reads; an exchange whose answer was not read to its
end closes the connection, which is how a provider learns that nobody waits for it any more; what is
sent while nothing was asked closes it, too.
"""

import asyncio
import math
import ssl
from collections import deque
from collections.abc import Callable
from typing import cast

import h11

from ...engine.request import Refusal
from ..deadline import Deadline

HEAD = 65536  # bytes of an answer's head
AHEAD = 131072  # bytes that may wait to be read
ROUNDING = 0.002  # seconds: timers count in whole milliseconds
CONNECT = b"CONNECT"


class Connection(asyncio.Protocol):
    """A connection to the provider of this name; `gone` is told of its end while it is idle."""

    def __init__(self, name: str, gone: Callable[["Connection"], None]) -> None:
        self._name, self._gone = name, gone
        self._loop = asyncio.get_running_loop()
        self._deadline = Deadline(self._loop, self._ring)
        self._http = _client()
        self._inbox: deque[bytes] = deque()
        self._size = 0  # of what is in it
        self._waiter: asyncio.Future[None] | None = None
        self._paused = self._idle = False
        self.heard = False  # whether anything came of the answer
        self.ended = False  # whether nothing more can come
        self._refusal: Refusal | None = None  # what an exchange is ended with

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._idle:  # nobody has asked
            self.close()
            return
        self.heard = True
        self._inbox.append(data)
        self._size += len(data)
        if self._size > AHEAD and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._end()
        return False  # the transport closes by itself

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        self.ended = True
        self._wake()
        if self._idle:
            self._gone(self)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _ring(self) -> None:
        if self._idle:
            self.close()
        self._wake()

    # The exchange's side.

    def send(self, head: h11.Request, body: bytes) -> None:
        """Send a whole request."""
        self._idle = self.heard = False
        self._deadline.clear()
        parts = [self._http.send(head) or b""]
        if body:
            parts += self._http.send_with_data_passthrough(h11.Data(data=body)) or ()
        parts.append(self._http.send(h11.EndOfMessage()) or b"")
        self._transport.writelines(parts)

    async def event(self, due: float, beat: float = math.inf) -> h11.Event | None:
        """Return what comes next, None if nothing does for `beat` seconds.

        Raises TimeoutError where nothing came until `due`, a Refusal where nothing can.
        """
        while True:
            if self._refusal is not None:
                raise self._refusal
            try:
                event = self._http.next_event()
                if event is h11.PAUSED:
                    raise self.broken("it sent more than was asked for")
                if event is not h11.NEED_DATA:
                    return cast(h11.Event, event)
                if self._inbox or self.ended:
                    self._feed()
                    continue
            except h11.RemoteProtocolError as error:
                raise self.broken(str(error).partition(": bytearray")[0]) from None
            if not await self._more(due, beat):
                return None

    def _feed(self) -> None:
        data = self._inbox.popleft() if self._inbox else b""  # which is the end
        self._size -= len(data)
        self._http.receive_data(data)
        if self._paused and self._size <= AHEAD // 2:
            self._paused = False
            self._transport.resume_reading()

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
        came = self._inbox or self.ended or self._refusal
        return bool(came) or due - self._loop.time() <= ROUNDING

    def broken(self, why: str) -> Refusal:
        """Return the refusal of an answer of which no more can be had."""
        why = "the connection was closed" if self.ended and not self.heard else why
        return broken_off(self._name, why)

    def rest(self, seconds: float) -> bool:
        """Wait idly for the next exchange, so long; return False where there can be none."""
        done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if not done or self.ended or self._inbox or self._transport.is_closing():
            return False
        self._http.start_next_cycle()
        self._idle = True
        self._deadline.set(seconds)
        return True

    def interrupt(self, refusal: Refusal) -> None:
        """End the exchange with this refusal."""
        self._refusal = refusal
        self._wake()

    def close(self) -> None:
        self._deadline.close()
        self._transport.abort()

    # Through a proxy.

    async def secure(self, target: str, host: str, trust: ssl.SSLContext, due: float) -> None:
        """Have a proxy connect to the target, and encrypt what goes through. Raises Refusal."""
        name = target.encode()
        self.send(h11.Request(method=CONNECT, target=name, headers=[(b"host", name)]), b"")
        while isinstance(head := await self.event(due), h11.InformationalResponse):
            pass
        if not isinstance(head, h11.Response) or head.status_code // 100 != 2:
            status = head.status_code if isinstance(head, h11.Response) else "no status"
            raise self.broken(f"the proxy answered {status}")
        self._http = _client()
        tls = await self._loop.start_tls(self._transport, self, trust, server_hostname=host)
        self._transport = cast(asyncio.Transport, tls)


def _client() -> h11.Connection:
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD)


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
