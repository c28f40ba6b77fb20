"""One client's socket: an asyncio.Protocol around h11 that holds one exchange at a time.

Rules: the handler starts when the whole request has arrived; a client that is gone, also one that
only closed its sending side (nothing tells the two apart), cancels the handler at once; nothing is
read ahead, and nothing is produced ahead, beyond one buffer.
"""

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol, cast

import h11

from ..engine.request import Refusal
from .message import Headers, HttpRequest, Reply, Response, StreamingResponse

READ_AHEAD = 65536  # bytes of pipelined requests kept while one is answered; one socket read
LINGER = 2.0  # seconds a refused client may go on sending: closing at once resets the connection
# and can destroy the answer before it is read (RFC 9112, section 9.6)
CLIENT_GONE = 499  # nginx's code for a client that did not wait; only ever seen in the log
REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
BODILESS = frozenset({204, 304})  # must not carry Content-Length (RFC 9110, section 8.6)
CLOSE = (b"connection", b"close")
CONTINUE = h11.InformationalResponse(status_code=100, headers=[], reason=REASONS[100])


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take: bytes of a body, seconds of everything else."""

    body: int = 10 * 2**20
    header: float = 10.0  # from its first byte to a whole header
    pause: float = 30.0  # between two pieces of a body
    keep_alive: float = 75.0  # between two requests
    stall: float = 60.0  # in which a reader takes nothing of what waits for it


class App(Protocol):
    """What stands behind a connection."""

    def __call__(self, request: HttpRequest) -> Awaitable[Reply]: ...

    def refuse(self, request: HttpRequest, refusal: Refusal) -> Response:
        """The error body; `request` is as much as was read, its method empty if nothing was."""
        ...

    def crashed(self, request: HttpRequest, error: Exception) -> None:
        """A handler or its stream raised what is no Refusal; the client is told nothing of it."""
        ...

    def finished(self, request: HttpRequest, status: int, sent: int, seconds: float) -> None:
        """An exchange is over; `sent` counts the bytes of its body."""
        ...


class Deadline:
    """A timer that is moved often and rings seldom: moving it costs an assignment."""

    __slots__ = ("_due", "_handle", "_loop", "_ring", "_wakes")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._due = self._wakes = math.inf
        self._handle: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        if self._due < self._wakes:
            self._schedule()

    def clear(self) -> None:
        self._due = math.inf

    def close(self) -> None:
        self._due = self._wakes = math.inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _schedule(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._wakes = self._due
        self._handle = self._loop.call_at(self._due, self._wake)

    def _wake(self) -> None:
        self._handle, self._wakes = None, math.inf
        if self._due <= self._loop.time():
            self._due = math.inf
            self._ring()
        elif self._due < math.inf:
            self._schedule()


class Connection(asyncio.Protocol):
    """`open_` is the set of live connections; this one enters and leaves it by itself."""

    def __init__(self, app: App, limits: Limits, open_: set["Connection"]) -> None:
        self._app = app
        self._limits = limits
        self._open = open_
        self._http = h11.Connection(h11.SERVER)
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None  # there while the client reads too slowly
        self._client = ""
        self._ahead = 0  # bytes that arrived during the exchange
        self._begun = False  # part of a header is here
        self._stopping = False
        self._lingering = False
        self._unsent = 0  # what waited for the client when it was last looked at
        self._status = CLIENT_GONE
        self._sent = 0

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has no such base class
        self._loop = asyncio.get_running_loop()
        self._deadline = Deadline(self._loop, self._expired)
        peer = transport.get_extra_info("peername")
        self._client = peer[0] if peer else "local"
        self._open.add(self)
        self._deadline.set(self._limits.header)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self._deadline.close()
        self._cancel()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        self._http.receive_data(data)
        if self._task is None:
            self._read()
            return
        self._ahead += len(data)
        if self._ahead > READ_AHEAD:
            self._transport.pause_reading()

    def eof_received(self) -> None:
        self._cancel()

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()
        self._watch_reader()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None
        if self._task is not None:
            self._deadline.clear()

    # The listener's side.

    def stop(self) -> None:
        """Take no further request; one that has begun is still read and answered."""
        self._stopping = True
        if self._task is None and self._head is None and not self._begun:
            self._hang_up()

    def cut(self) -> None:
        """Cancel the handler; a client that has no answer yet is told of the shutdown."""
        self._stopping = True
        if self._task is not None:
            self._cancel()
        else:
            self._transport.abort()

    def abort(self) -> None:
        self._transport.abort()

    def _cancel(self) -> None:
        """Once: a second time would break into the handler's cleaning up."""
        if self._task is not None and not self._task.cancelling():
            self._task.cancel()

    # Reading.

    def _read(self) -> None:
        """Take events from h11 until a request is whole or nothing more has arrived."""
        try:
            while (event := self._http.next_event()) is not h11.NEED_DATA:
                match event:
                    case h11.Request():
                        self._begin(event)
                    case h11.Data():
                        self._grow(event.data)
                    case h11.EndOfMessage():
                        self._complete()
                        return
            self._await_more()
        except h11.RemoteProtocolError as error:
            self._turn_away(malformed(error))
        except Refusal as refusal:
            self._turn_away(refusal)

    def _begin(self, head: h11.Request) -> None:
        self._head = head
        self._begun = False
        declared = next((v for k, v in head.headers if k == b"content-length"), b"0")
        if int(declared) > self._limits.body:
            raise too_large(self._limits.body)

    def _grow(self, piece: bytes) -> None:
        self._body += piece
        if len(self._body) > self._limits.body:
            raise too_large(self._limits.body)

    def _await_more(self) -> None:
        if self._ahead > READ_AHEAD:
            self._transport.resume_reading()
        self._ahead = 0
        if self._head is not None:
            if self._http.they_are_waiting_for_100_continue:
                self._write(self._http.send(CONTINUE))
            self._deadline.set(self._limits.pause)
        elif not self._http.trailing_data[0]:
            self._deadline.set(self._limits.keep_alive)
        elif not self._begun:
            self._begun = True
            self._deadline.set(self._limits.header)

    def _complete(self) -> None:
        self._deadline.clear()
        request = self._request(bytes(self._body))
        self._body = bytearray()
        self._task = self._loop.create_task(self._exchange(request))

    def _request(self, body: bytes = b"") -> HttpRequest:
        name = "req_" + os.urandom(12).hex()
        if self._head is None:
            return HttpRequest("", "", "", (), body, self._client, name)
        path, query = split_target(self._head.target.decode("ascii"))
        method = self._head.method.decode("ascii")
        headers = tuple(self._head.headers)
        return HttpRequest(method, path, query, headers, body, self._client, name)

    # Answering.

    async def _exchange(self, request: HttpRequest) -> None:
        began = time.perf_counter()
        self._status, self._sent = CLIENT_GONE, 0
        try:
            reply = await self._app(request)
            if isinstance(reply, Response):
                self._send(request, reply)
            else:
                await self._stream(request, reply)
            if self._drained is not None:
                await self._drained
        except Refusal as refusal:
            self._refuse(request, refusal)
        except asyncio.CancelledError:
            self._refuse(request, Refusal(503, "shutting_down", "The server is shutting down."))
        except Exception as error:  # noqa: BLE001  a handler's bug must not end the server
            self._app.crashed(request, error)
            self._refuse(request, Refusal(500, "internal_error", "Internal server error."))
        self._app.finished(request, self._status, self._sent, time.perf_counter() - began)
        self._next()

    def _send(self, request: HttpRequest, reply: Response) -> None:
        length: Headers = ()
        if reply.status not in BODILESS:
            length = ((b"content-length", b"%d" % len(reply.body)),)
        parts = [self._open_reply(request, reply, length)]
        if reply.body and request.method != "HEAD":
            parts.append(self._http.send(h11.Data(data=reply.body)) or b"")
            self._sent += len(reply.body)
        parts.append(self._http.send(h11.EndOfMessage()) or b"")
        self._write(b"".join(parts))

    def _open_reply(self, request: HttpRequest, reply: Reply, length: Headers = ()) -> bytes:
        name = request.id.encode()
        headers = [*reply.headers, *length, (b"x-request-id", name), (b"request-id", name)]
        if self._stopping or self._lingering:
            headers.append(CLOSE)
        head = h11.Response(
            status_code=reply.status, headers=headers, reason=REASONS.get(reply.status, b"")
        )
        self._status = reply.status
        return self._http.send(head) or b""

    async def _stream(self, request: HttpRequest, reply: StreamingResponse) -> None:
        """Nothing is awaited before the first chunk is: an iterator that was never started could
        not clean up after itself."""
        try:
            self._write(self._open_reply(request, reply))
            if request.method != "HEAD":
                await self._send_chunks(reply.chunks)
        finally:
            await reply.chunks.aclose()
        if not self._transport.is_closing():
            self._write(self._http.send(h11.EndOfMessage()))

    async def _send_chunks(self, chunks: AsyncIterator[bytes]) -> None:
        async for chunk in chunks:
            if self._transport.is_closing():
                return
            self._write(self._http.send(h11.Data(data=chunk)))
            self._sent += len(chunk)
            if self._drained is not None:
                await self._drained

    def _refuse(self, request: HttpRequest, refusal: Refusal) -> None:
        """Answer with an error; where an answer has begun, break it off unfinished."""
        if self._transport.is_closing():
            return
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send(request, self._app.refuse(request, refusal))
        else:
            self._hang_up()

    def _turn_away(self, refusal: Refusal) -> None:
        """Answer a request that was not read to its end; hang up once the client has seen it."""
        request = self._request()
        self._sent = 0
        self._lingering = True
        self._send(request, self._app.refuse(request, refusal))
        self._app.finished(request, self._status, self._sent, 0.0)
        self._transport.write_eof()
        self._deadline.set(LINGER)

    def _next(self) -> None:
        """Go on to the next request, which may have arrived already, or hang up."""
        self._task = self._head = None
        if self._transport.is_closing():
            return
        if self._stopping or {self._http.our_state, self._http.their_state} != {h11.DONE}:
            self._hang_up()
            return
        self._http.start_next_cycle()
        self._read()

    def _write(self, data: bytes | None) -> None:
        if data and not self._transport.is_closing():
            self._transport.write(data)

    # Time.

    def _expired(self) -> None:
        if self._lingering:
            self._transport.abort()
        elif self._drained is not None or self._transport.is_closing():
            self._judge_reader()
        elif self._head is not None:
            self._turn_away(Refusal(408, "request_timeout", "The request's body did not arrive."))
        elif self._begun:
            self._turn_away(Refusal(408, "request_timeout", "The request's header took too long."))
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        """Close once what was written is sent, which a client that reads nothing cannot hold up."""
        self._transport.close()
        self._watch_reader()

    def _watch_reader(self) -> None:
        if not self._lingering:
            self._unsent = self._transport.get_write_buffer_size()
            self._deadline.set(self._limits.stall)

    def _judge_reader(self) -> None:
        if self._transport.get_write_buffer_size() < self._unsent:
            self._watch_reader()
        else:
            self._transport.abort()


def split_target(target: str) -> tuple[str, str]:
    """Path and query of a request target, which a proxy may have sent in absolute form."""
    if not target.startswith("/") and "://" in target:
        target = "/" + target.partition("://")[2].partition("/")[2]
    path, _, query = target.partition("?")
    return path, query


def too_large(limit: int) -> Refusal:
    return Refusal(413, "request_too_large", f"The request's body is over {limit} bytes.")


def malformed(error: h11.RemoteProtocolError) -> Refusal:
    return Refusal(error.error_status_hint, "bad_request", f"Malformed HTTP: {error}.")
