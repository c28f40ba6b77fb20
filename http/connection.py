"""One client's socket: an asyncio protocol around h11 that holds one exchange at a time.

Rules: what a header tells is refused before its body is read; the handler starts when the whole
request has arrived; a client that is gone cancels the handler. One that sends no more may still be
there (half-closed) and gets its answer; so may one that has sent too much ahead to be read on.
Both are probed while nothing is sent, for a kernel whose client is gone refuses that. Nothing is
read or produced ahead beyond one buffer, and no input, nor that of all clients, holds up others.

A connection is in one Phase at a time. FOLLOWERS says which may come after which, DEADLINES how
long each may last, and the table at the end of Connection what an event does in each: DATA
arrives, or there is MORE of what did; the client is GONE, or at the END of all that it sends; the
exchange is OVER; the write buffer is FULL, or FREE again; the
deadline finds the client LATE, or SLOW to read; the server is asked to STOP, or to CUT it short.
What these tables do not have is a bug and raises. Three facts can be true in any phase and stand
apart: `_stopping`; `_drained`, there while the client reads too slowly; and whether the transport
is closing, which it also does by itself, at an error or once the client is gone.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import cast

import h11

from ..engine.request import Refusal, shutting_down
from .body import Body, BodyBudget, coding_of, too_large
from .deadline import Deadline
from .head import asked, check_header, framed_length, unread
from .limits import ConnectionLimits
from .message import App, Headers, HttpRequest, Reply, Response, StreamingResponse
from .phase import DEADLINES, FOLLOWERS, OVERDUE, Phase
from .read_queue import PIECE, ReadQueue

READ_AHEAD = 65536  # bytes of pipelined requests kept while one is answered; one socket read
OVERHEAD = 32768, 8  # bytes of chunk framing: so many, and one for every so many of the body
STATUS = b"HTTP/1.1 "  # begins every answer; each of its bytes is a probe
PROBES = (0.4, 0.4, 5.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)  # seconds after each of them
SURPLUS = 256  # connections over the limit that are told so at a time
SETTLED = 1.0  # seconds without a request after which a connection may be closed for another
LINGER = 2.0, 30.0  # seconds in which a client that is not read any more may pause, and send: to
# close at once resets the connection and can destroy the answer (RFC 9112, section 9.6)
CLIENT_GONE = 499  # nginx's code for a client that did not wait; only ever seen in the log
REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
CLOSE = (b"connection", b"close")
IDS = (b"x-request-id", b"request-id")
CONTINUE = h11.InformationalResponse(status_code=100, headers=[], reason=REASONS[100])
IDLE, HEADER, BODY, ANSWERING, LINGERING, CLOSING = Phase
Acts = tuple[Callable[..., None], ...]


class Connection(asyncio.BufferedProtocol):
    """One client's connection, which enters and leaves `open_`, the set of live ones, by itself."""

    def __init__(
        self,
        app: App,
        limits: ConnectionLimits,
        open_: set["Connection"],
        budget: BodyBudget,
        queue: ReadQueue,
    ) -> None:
        self._app = app
        self._limits = limits
        self._open = open_
        self._http = h11.Connection(h11.SERVER)
        self._request = unread("")
        self._refusal: Refusal | None = None  # of what is read to its end all the same
        self._budget = budget
        self._inbox = bytearray()  # what h11 has not been given yet
        self._wire = 0  # bytes of a body as it came
        self._queue = queue
        self._queued = False
        self._paused = False
        self._ended = False  # the client sends no more
        self._probed = 0  # bytes of the answer that were sent as probes
        self._phase = IDLE
        self._task: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
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
        self._since = self._loop.time()  # when it was idle last
        self._deadline.set(self._limits.header)
        if len(self._open) > self._limits.connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self._deadline.close()
        self.GONE[self._phase](self)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._queue.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(memoryview(self._queue.buffer)[:nbytes]))

    def data_received(self, data: bytes) -> None:
        self.DATA[self._phase](self, data)

    def eof_received(self) -> bool:
        self._ended = True
        self.END[self._phase](self)
        return True  # the transport does not close by itself

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
        """Take events from h11 until a request is whole or nothing more has arrived.

        The rest of what holds many of them waits until others had their turns.
        """
        self._inbox += data
        if self._queued:
            return
        if self._phase is IDLE and not self._http.trailing_data[0]:
            self._inbox = self._inbox.lstrip(b"\r\n")  # empty lines (RFC 9112, section 2.2)
        try:
            for _ in self._queue.share():
                if self._phase is not BODY:
                    check_header(self._http.trailing_data[0])
                match self._http.next_event():
                    case h11.Request() as head:
                        self._begin(head)
                    case h11.Data() as piece:
                        self._grow(piece.data)
                    case h11.EndOfMessage():
                        self._complete()
                        return
                    case _ if self._inbox:
                        self._feed()
                    case _:
                        self._await_more()
                        return
            self._wait()
        except h11.RemoteProtocolError as error:
            text = f"Malformed HTTP: {str(error).partition(': bytearray')[0]}."
            self._turn_away(Refusal(error.error_status_hint, "bad_request", text))
        except Refusal as refusal:
            self._turn_away(refusal)

    def _wait(self) -> None:
        self._queued = True
        self._queue.wait(self._go_on)
        self._balance()

    def _go_on(self) -> None:
        self._queued = False
        if not self._transport.is_closing():
            self.MORE[self._phase](self)

    def _feed(self) -> None:
        piece = bytes(self._inbox[:PIECE])
        del self._inbox[:PIECE]
        self._http.receive_data(piece)
        self._wire += len(piece)

    def _balance(self) -> None:
        """Read from the socket only while little of what it brought is unread."""
        pause = self._queued or len(self._inbox) > READ_AHEAD
        if pause != self._paused:
            self._paused = pause
            (self._transport.pause_reading if pause else self._transport.resume_reading)()

    def _begin(self, head: h11.Request) -> None:
        self._enter(BODY)
        self._began, self._wire, self._refusal = self._loop.time(), 0, None
        self._request = asked(head, Body(budget=self._budget), self._client)
        length = framed_length(self._request.headers, head.http_version)
        if length > self._limits.body:
            raise too_large(self._limits.body)
        try:
            self._request = self._app.admit(self._request)
        except Refusal as refusal:
            if length < 0 or length > len(self._http.trailing_data[0]) + len(self._inbox):
                raise
            self._refusal = refusal

    def _grow(self, piece: bytes) -> None:
        if self._refusal is None:
            self._request.body.add(piece, self._limits.body)

    def _await_more(self) -> None:
        self._balance()
        if self._ended:
            self.END[HEADER if self._http.trailing_data[0] else self._phase](self)
        elif self._phase is not HEADER:  # its time runs from its first byte
            seconds = self._patience() if self._phase is BODY else math.inf
            if self._phase is IDLE and self._http.trailing_data[0]:
                self._enter(HEADER)
            self._deadline.set(min(seconds, getattr(self._limits, DEADLINES[self._phase])))

    def _patience(self) -> float:
        """Return the seconds left for a body; let a client begin it that waits for that."""
        size = len(self._request.body)
        if self._wire > size + size // OVERHEAD[1] + OVERHEAD[0]:
            raise Refusal(400, "bad_request", "The body's chunks are too small for its size.")
        if self._http.they_are_waiting_for_100_continue:
            self._write(self._http.send(CONTINUE))
        due = self._began + self._limits.whole + size / self._limits.rate
        return due - self._loop.time()

    def _complete(self) -> None:
        self._enter(ANSWERING)
        self._deadline.clear()
        self._balance()
        self._task = self._loop.create_task(self._exchange(self._request))
        if self._ended or self._paused:
            self._probe()

    def _keep(self, data: bytes) -> None:
        self._inbox += data
        self._balance()
        if self._paused:
            self._probe()

    # Answering.

    async def _exchange(self, request: HttpRequest) -> None:
        began = time.perf_counter()
        self._status, self._sent, self._failure = CLIENT_GONE, 0, None
        try:
            reply = await self._answer(request)
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
        finally:
            request.body.drop()
        self._app.finished(request, self._status, self._sent, time.perf_counter() - began)
        self.OVER[self._phase](self)

    async def _answer(self, request: HttpRequest) -> Reply:
        if self._refusal is not None:
            raise self._refusal
        if len(request.body) and (coding := coding_of(request.headers)):
            await request.body.inflate(coding, self._limits.body)
        return await self._app(request)

    def _send(self, request: HttpRequest, reply: Response) -> None:
        length: Headers = ()
        if reply.status != HTTPStatus.NO_CONTENT:  # which must not (RFC 9110, section 8.6)
            length = ((b"content-length", b"%d" % len(reply.body)),)
        parts = [self._open_reply(request, reply, length)]
        if reply.body and request.method != "HEAD":  # which is copied nowhere: it may be large
            data = h11.Data(data=reply.body)
            parts += self._http.send_with_data_passthrough(data) or ()
            self._sent += len(reply.body)
        parts.append(self._http.send(h11.EndOfMessage()) or b"")
        if not self._transport.is_closing():
            self._transport.writelines(parts)

    def _open_reply(self, request: HttpRequest, reply: Reply, length: Headers = ()) -> bytes:
        passed = dict(reply.headers)  # another server's ids may be there
        ids = ((name, request.id.encode()) for name in IDS if name not in passed)
        headers = [*reply.headers, *length, *ids]
        if self._stopping or self._phase is not ANSWERING:
            headers.append(CLOSE)
        head = h11.Response(
            status_code=reply.status, headers=headers, reason=REASONS.get(reply.status, b"")
        )
        self._status = reply.status
        sent, self._probed = self._probed, 0
        return (self._http.send(head) or b"")[sent:]

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
            self._write(self._framed(chunk))
            self._probed = 0
            self._sent += len(chunk)
            if self._drained is not None:
                await self._drained

    def _framed(self, piece: bytes) -> bytes:
        """Frame a piece of a stream as h11 does, which takes ten times as long: it is in order."""
        chunked = (self._http.their_http_version or b"") >= b"1.1"
        return b"%x\r\n%b\r\n" % (len(piece), piece) if chunked and piece else piece

    def _refuse(self, request: HttpRequest, refusal: Refusal) -> None:
        """Answer with an error; a stream that has begun ends with it, or unfinished."""
        if self._transport.is_closing():
            return
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send(request, self._app.refuse(request, refusal))
        elif last := self._last_words(request, refusal):
            self._sent += len(last)
            self._write(self._framed(last))
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
        request = self._request if self._phase is BODY else unread(self._client)
        self._sent = 0
        self._enter(LINGERING)
        self._send(request, self._app.refuse(request, refusal))
        self._app.finished(request, self._status, self._sent, 0.0)
        request.body.drop()
        self._linger()

    def _linger(self) -> None:
        """Send no more; let the client, who may still be sending, read what it was sent."""
        self._inbox.clear()
        self._balance()
        self._unsent = self._transport.get_write_buffer_size()
        self._transport.write_eof()
        self._until = self._loop.time() + LINGER[1]
        self._deadline.set(LINGER[0])

    def _next(self) -> None:
        """Go on to the next request, which may have arrived already, or hang up."""
        self._task = None
        if self._transport.is_closing():
            self._enter(CLOSING)
            return
        rest = self._http.trailing_data[0]
        over = {self._http.our_state, self._http.their_state} == {h11.DONE}
        if over and not self._stopping:
            self._enter(IDLE)
            self._since = self._loop.time()
            self._http, self._inbox[:0] = h11.Connection(h11.SERVER), rest
            self._read()
        elif not self._ended and (rest or self._inbox):
            self._enter(LINGERING)
            self._linger()
        else:
            self._hang_up()

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

    def _break_off(self) -> None:
        self._turn_away(Refusal(400, "bad_request", "The request ended before it was whole."))
        self._transport.close()

    def _probe(self) -> None:
        """Send a byte of the answer, whatever it will be, or a zero of its next chunk's size."""
        state, at = self._http.our_state, self._probed
        chunked = state is h11.SEND_BODY and (self._http.their_http_version or b"") >= b"1.1"
        if (chunked or state is h11.SEND_RESPONSE) and at < len(PROBES):
            self._write(b"0" if chunked else STATUS[at : at + 1])
            self._deadline.set(PROBES[at])
            self._probed += 1

    def _make_room(self) -> None:
        """Close the connection that has asked nothing for longest, or else refuse this one."""
        idle = (each for each in self._open if each._phase is IDLE)
        longest = min(idle, key=lambda each: each._since)
        if len(self._open) > self._limits.connections + SURPLUS:
            self._transport.abort()
        elif self._since - longest._since > SETTLED:
            longest.stop()
        else:
            text = "The server has as many connections as it takes; try again."
            self._turn_away(Refusal(503, "overloaded", text, retry_after=1))

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

    def _forget(self) -> None:
        self._request.body.drop()

    def _relax(self) -> None:
        self._deadline.clear()

    def _pass_over(self, _: bytes) -> None:
        """Drop what a client sends that is not read any more, in turn with what others send."""
        self._deadline.set(min(LINGER[0], self._until - self._loop.time()))
        if not self._queued and not self._queue.allows():
            self._wait()

    def _ignore(self, _: bytes = b"") -> None:
        pass

    def _never(self) -> None:
        raise RuntimeError(f"cannot happen while {self._phase.name}")

    # fmt: off
    #              IDLE      HEADER      BODY        ANSWERING LINGERING CLOSING
    DATA: Acts = (_read,    _read,      _read,      _keep,    _pass_over, _ignore)
    MORE: Acts = (_read,    _read,      _read,      _never,   _balance, _ignore)
    END: Acts =  (_hang_up, _break_off, _break_off, _probe,   _close,   _ignore)
    GONE: Acts = (_ignore,  _ignore,    _forget,    _cancel,  _ignore,  _ignore)
    OVER: Acts = (_never,   _never,     _never,     _next,    _never,   _next)
    FULL: Acts = (_watch,   _watch,     _watch,     _watch,   _ignore,  _watch)
    FREE: Acts = (_ignore,  _ignore,    _ignore,    _relax,   _ignore,  _ignore)
    LATE: Acts = (_hang_up, _time_out,  _time_out,  _probe,   _check,   _never)
    SLOW: Acts = (_check,   _check,     _check,     _check,   _check,   _check)
    STOP: Acts = (_hang_up, _ignore,    _ignore,    _ignore,  _ignore,  _hang_up)
    CUT: Acts =  (abort,    abort,      abort,      _cancel,  abort,    abort)
    # fmt: on
