"""One client's socket: an asyncio.Protocol around h11 that holds one exchange at a time.

Rules: the handler starts when the whole request has arrived; a client that is gone, also one that
only closed its sending side (nothing tells the two apart), cancels the handler at once; nothing is
read ahead, and nothing is produced ahead, beyond one buffer.

A connection is in one Phase at a time. FOLLOWERS says which may come after which, DEADLINES how
long each may last, and the table at the end of Connection what an event does in each: DATA
arrives; the client is GONE; the exchange is OVER; the write buffer is FULL, or FREE again; the
deadline finds the client LATE, or SLOW to read; the server is asked to STOP, or to CUT it short.
What these tables do not have is a bug and raises. Three facts can be true in any phase and stand
apart: `_stopping`; `_drained`, there while the client reads too slowly; and whether the transport
is closing, which it also does by itself, at an error or once the client is gone.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus
from typing import Protocol, cast

import h11

from ..engine.request import Refusal, shutting_down
from .deadline import Deadline
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
class ConnectionLimits:
    """The most that a client may take: bytes of a body, seconds of everything else."""

    body: int = 10 * 2**20
    header: float = 10.0  # from its first byte to a whole header
    pause: float = 30.0  # between two pieces of a body
    keep_alive: float = 75.0  # between two requests
    stall: float = 60.0  # in which a reader takes nothing of what waits for it


class App(Protocol):
    """The application behind a connection."""

    def __call__(self, request: HttpRequest) -> Awaitable[Reply]: ...

    def refuse(self, request: HttpRequest, refusal: Refusal) -> Response:
        """Return the error; `request` is as much as was read, its method empty if nothing was."""
        ...

    def crashed(self, request: HttpRequest, error: Exception) -> None:
        """Note that a handler or its stream raised what is no Refusal; the client is not told."""
        ...

    def finished(self, request: HttpRequest, status: int, sent: int, seconds: float) -> None:
        """Note that an exchange is over; `sent` counts the bytes of its body."""
        ...


class Phase(IntEnum):
    """The part of an exchange that is here; the tables have one place for each, in this order."""

    IDLE = 0  # nothing
    HEADER = 1  # a part of its header
    BODY = 2  # its header, and not all of its body
    ANSWERING = 3  # all of the request: the handler runs, or its stream
    LINGERING = 4  # a refusal of what was not read to its end; the client may still be sending it
    REJECTED = 5  # likewise, but its very first piece was malformed: stopping does not wait for it
    CLOSING = 6  # nothing, and nothing will be; what was written is being sent


IDLE, HEADER, BODY, ANSWERING, LINGERING, REJECTED, CLOSING = Phase
FOLLOWERS = (
    (HEADER, BODY, REJECTED, CLOSING),  # of IDLE
    (BODY, LINGERING),  # of HEADER
    (ANSWERING, LINGERING),  # of BODY
    (IDLE, CLOSING),  # of ANSWERING
    (),  # of LINGERING
    (),  # of REJECTED
    (CLOSING,),  # of CLOSING: being asked to stop repeats it
)
DEADLINES = {IDLE: "keep_alive", HEADER: "header", BODY: "pause"}  # refused: LINGER; slow: stall
OVERDUE = {HEADER: "header took too long", BODY: "body did not arrive"}
Acts = tuple[Callable[..., None], ...]


class Connection(asyncio.Protocol):
    """One client's connection, which enters and leaves `open_`, the set of live ones, by itself."""

    def __init__(self, app: App, limits: ConnectionLimits, open_: set["Connection"]) -> None:
        self._app = app
        self._limits = limits
        self._open = open_
        self._http = h11.Connection(h11.SERVER)
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._phase = IDLE
        self._task: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._ahead = 0  # bytes that arrived during the exchange
        self._stopping = False
        self._failure: Callable[[Refusal], bytes] | None = None  # how the stream says it
        self._unsent = 0  # what waited for the client when it was last looked at

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has no such base class
        self._loop = asyncio.get_running_loop()
        self._deadline = Deadline(self._loop, self._ring)
        peer = transport.get_extra_info("peername")
        self._client = peer[0] if peer else "local"
        self._open.add(self)
        self._deadline.set(self._limits.header)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self._deadline.close()
        self.GONE[self._phase](self)

    def data_received(self, data: bytes) -> None:
        self.DATA[self._phase](self, data)

    def eof_received(self) -> None:
        self.GONE[self._phase](self)  # after which the transport closes by itself

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()
        self.FULL[self._phase](self)

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None
        self.FREE[self._phase](self)

    def _ring(self) -> None:
        slow = self._drained is not None or self._transport.is_closing()
        (self.SLOW if slow else self.LATE)[self._phase](self)

    # The listener's side.

    def stop(self) -> None:
        """Take no further request; one that has begun is still read and answered."""
        self._stopping = True
        self.STOP[self._phase](self)

    def cut(self) -> None:
        """Cancel the handler; a client that has no answer yet is told of the shutdown."""
        self._stopping = True
        self.CUT[self._phase](self)

    def abort(self) -> None:
        self._transport.abort()

    # Reading.

    def _read(self, data: bytes = b"") -> None:
        """Take events from h11 until a request is whole or nothing more has arrived."""
        if data:
            self._http.receive_data(data)
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
            text = f"Malformed HTTP: {error}."
            self._turn_away(Refusal(error.error_status_hint, "bad_request", text))
        except Refusal as refusal:
            self._turn_away(refusal)

    def _begin(self, head: h11.Request) -> None:
        self._enter(BODY)
        self._head, self._headers = head, tuple(head.headers)
        if int(dict(self._headers).get(b"content-length", b"0")) > self._limits.body:
            raise too_large(self._limits.body)

    def _grow(self, piece: bytes) -> None:
        self._body += piece
        if len(self._body) > self._limits.body:
            raise too_large(self._limits.body)

    def _await_more(self) -> None:
        if self._ahead > READ_AHEAD:
            self._transport.resume_reading()
        self._ahead = 0
        if self._phase is HEADER:
            return  # its time runs from its first byte
        if self._phase is BODY and self._http.they_are_waiting_for_100_continue:
            self._write(self._http.send(CONTINUE))
        if self._phase is IDLE and self._http.trailing_data[0]:
            self._enter(HEADER)
        self._deadline.set(getattr(self._limits, DEADLINES[self._phase]))

    def _complete(self) -> None:
        self._enter(ANSWERING)
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
        return HttpRequest(method, path, query, self._headers, body, self._client, name)

    def _keep(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._ahead += len(data)
        if self._ahead > READ_AHEAD:
            self._transport.pause_reading()

    # Answering.

    async def _exchange(self, request: HttpRequest) -> None:
        began = time.perf_counter()
        self._status, self._sent, self._failure = CLIENT_GONE, 0, None
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
            self._refuse(request, shutting_down())
        except Exception as error:  # noqa: BLE001  a handler's bug must not end the server
            self._app.crashed(request, error)
            self._refuse(request, Refusal(500, "internal_error", "Internal server error."))
        self._app.finished(request, self._status, self._sent, time.perf_counter() - began)
        self.OVER[self._phase](self)

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
        if self._stopping or self._phase is not ANSWERING:
            headers.append(CLOSE)
        head = h11.Response(
            status_code=reply.status, headers=headers, reason=REASONS.get(reply.status, b"")
        )
        self._status = reply.status
        return self._http.send(head) or b""

    async def _stream(self, request: HttpRequest, reply: StreamingResponse) -> None:
        """Await nothing before the first chunk: an iterator that was never started could not clean
        up after itself."""
        self._failure = reply.failure
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
        """Answer with an error; a stream that has begun ends with it, or unfinished."""
        if self._transport.is_closing():
            return
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send(request, self._app.refuse(request, refusal))
        elif last := self._last_words(request, refusal):
            self._sent += len(last)
            self._write(self._http.send(h11.Data(data=last)))
            self._write(self._http.send(h11.EndOfMessage()))
        else:
            self._hang_up()

    def _last_words(self, request: HttpRequest, refusal: Refusal) -> bytes:
        """Return what ends a stream that has begun, if it can say that."""
        if self._failure is None or self._http.our_state is not h11.SEND_BODY:
            return b""
        try:
            return self._failure(refusal)
        except Exception as error:  # noqa: BLE001  what cannot even say this ends unfinished
            self._app.crashed(request, error)
            return b""

    def _turn_away(self, refusal: Refusal) -> None:
        """Answer a request that was not read to its end; hang up once the client has seen it."""
        request = self._request()
        self._sent = 0
        self._enter(REJECTED if self._phase is IDLE else LINGERING)
        self._send(request, self._app.refuse(request, refusal))
        self._app.finished(request, self._status, self._sent, 0.0)
        self._transport.write_eof()
        self._deadline.set(LINGER)

    def _next(self) -> None:
        """Go on to the next request, which may have arrived already, or hang up."""
        self._task = self._head = None
        if self._transport.is_closing():
            self._enter(CLOSING)
        elif self._stopping or {self._http.our_state, self._http.their_state} != {h11.DONE}:
            self._hang_up()
        else:
            self._enter(IDLE)
            self._http.start_next_cycle()
            self._read()

    def _write(self, data: bytes | None) -> None:
        if data and not self._transport.is_closing():
            self._transport.write(data)

    # What events do.

    def _enter(self, phase: Phase) -> None:
        if phase not in FOLLOWERS[self._phase]:
            raise RuntimeError(f"{phase.name} cannot come after {self._phase.name}")
        self._phase = phase

    def _cancel(self) -> None:
        """Cancel the handler once: a second time would break into its cleaning up."""
        if self._task is not None and not self._task.cancelling():
            self._task.cancel()

    def _time_out(self) -> None:
        self._turn_away(Refusal(408, "request_timeout", f"The request's {OVERDUE[self._phase]}."))

    def _hang_up(self) -> None:
        """Close once what was written is sent, which a client that reads nothing cannot hold up."""
        self._enter(CLOSING)
        self._transport.close()
        self._watch()

    def _close(self) -> None:
        self._transport.close()

    def _watch(self) -> None:
        self._unsent = self._transport.get_write_buffer_size()
        self._deadline.set(self._limits.stall)

    def _check(self) -> None:
        if self._transport.get_write_buffer_size() < self._unsent:
            self._watch()
        else:
            self._transport.abort()

    def _relax(self) -> None:
        self._deadline.clear()

    def _ignore(self, _: bytes = b"") -> None:
        pass

    def _never(self) -> None:
        raise RuntimeError(f"cannot happen while {self._phase.name}")

    # fmt: off
    #              IDLE      HEADER     BODY       ANSWERING LINGERING REJECTED CLOSING
    DATA: Acts = (_read,    _read,     _read,     _keep,    _ignore,  _ignore, _ignore)
    GONE: Acts = (_ignore,  _ignore,   _ignore,   _cancel,  _ignore,  _ignore, _ignore)
    OVER: Acts = (_never,   _never,    _never,    _next,    _never,   _never,  _next)
    FULL: Acts = (_watch,   _watch,    _watch,    _watch,   _ignore,  _ignore, _watch)
    FREE: Acts = (_ignore,  _ignore,   _ignore,   _relax,   _ignore,  _ignore, _ignore)
    LATE: Acts = (_hang_up, _time_out, _time_out, _never,   abort,    abort,   _never)
    SLOW: Acts = (_check,   _check,    _check,    _check,   abort,    abort,   _check)
    STOP: Acts = (_hang_up, _ignore,   _ignore,   _ignore,  _ignore,  _close,  _hang_up)
    CUT: Acts =  (abort,    abort,     abort,     _cancel,  abort,    abort,   abort)
    # fmt: on


def split_target(target: str) -> tuple[str, str]:
    """Split a request target, which a proxy may have sent in absolute form, at its query."""
    if not target.startswith("/") and "://" in target:
        target = "/" + target.partition("://")[2].partition("/")[2]
    path, _, query = target.partition("?")
    return path, query


def too_large(limit: int) -> Refusal:
    return Refusal(413, "request_too_large", f"The request's body is over {limit} bytes.")
