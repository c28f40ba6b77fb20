"""A client of a Connection without a port: a fake transport, and a clock that tests turn."""

import asyncio
import io
import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from http.client import HTTPResponse
from typing import Any, cast

from msgspec import structs

from bessemer.engine.request import Refusal
from bessemer.http.body import BodyBudget
from bessemer.http.connection import Connection
from bessemer.http.limits import ConnectionLimits
from bessemer.http.message import HttpRequest, Reply, Response, StreamingResponse
from bessemer.http.read_queue import ReadQueue

HIGH_WATER = 65536
GET = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: t\r\n\r\n"
)
HEAD = b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n"


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time a test moves on."""

    skew = 0.0

    def time(self) -> float:
        return super().time() + self.skew


class Wire(asyncio.Transport):
    """A transport that keeps what is written; `reading` says whether the client takes it."""

    def __init__(self, protocol: Connection) -> None:
        super().__init__({"peername": ("192.0.2.7", 4711)})
        self.protocol = protocol
        self.writes: list[bytes] = []
        self.reading = True
        self.paused = self.closing = self.closed = self.aborted = self.ended = False
        self._waiting = 0

    @property
    def data(self) -> bytes:
        return b"".join(self.writes)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def write(self, data: Any) -> None:
        assert not self.closing and not self.ended
        self.writes.append(bytes(data))
        if not self.reading:
            low = self._waiting <= HIGH_WATER
            self._waiting += len(data)
            if low and self._waiting > HIGH_WATER:
                self.protocol.pause_writing()

    def take(self, count: int) -> None:
        high = self._waiting > HIGH_WATER
        self._waiting = max(0, self._waiting - count)
        if high and self._waiting <= HIGH_WATER:
            self.protocol.resume_writing()
        if self.closing and not self._waiting:
            self._lose()

    def get_write_buffer_size(self) -> int:
        return self._waiting

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True
        if not self._waiting:
            self._lose()

    def abort(self) -> None:
        self.closing = self.aborted = True
        self._lose()

    def _lose(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Echo:
    """An App that answers by path, and remembers what it was told."""

    def __init__(self, handler: Callable[[HttpRequest], Awaitable[Reply]] | None = None) -> None:
        self.handler = handler
        self.refusal: Refusal | None = None
        self.admitted: list[HttpRequest] = []
        self.sizes: list[int] = []  # of bodies when their request was admitted
        self.requests: list[HttpRequest] = []
        self.crashes: list[Exception] = []
        self.done: list[tuple[str, int, int]] = []

    def admit(self, request: HttpRequest) -> HttpRequest:
        if self.refusal is not None:
            raise self.refusal
        self.admitted.append(request)
        self.sizes.append(len(request.body))
        return structs.replace(request, caller="somebody")

    async def __call__(self, request: HttpRequest) -> Reply:
        self.requests.append(request)
        if self.handler is not None:
            return await self.handler(request)
        if request.path == "/stream":
            return StreamingResponse(
                counting(3), headers=((b"content-type", b"text/event-stream"),)
            )
        return Response(200, b"%b %b" % (request.path.encode(), request.body.take()))

    def refuse(self, request: HttpRequest, refusal: Refusal) -> Response:
        return Response(refusal.status, json.dumps({"code": refusal.code}).encode())

    def crashed(self, request: HttpRequest, error: Exception) -> None:
        self.crashes.append(error)

    def finished(self, request: HttpRequest, status: int, sent: int, seconds: float) -> None:
        assert seconds >= 0
        self.done.append((request.path, status, sent))


class Client:
    """The other end: feeds bytes to a connection and reads its answers with http.client."""

    def __init__(
        self, app: Echo, limits: ConnectionLimits, open_: set[Connection] | None = None
    ) -> None:
        self.app = app
        self.open: set[Connection] = set() if open_ is None else open_
        budget = BodyBudget(limits.bodies)
        self.connection = Connection(app, limits, self.open, budget, ReadQueue())
        self.wire = Wire(self.connection)
        self.connection.connection_made(self.wire)

    async def send(self, data: bytes, size: int | None = None) -> None:
        size = size or max(len(data), 1)
        for start in range(0, len(data), size):
            if not self.wire.closing:
                self.connection.data_received(data[start : start + size])
        await settle()

    async def end(self) -> None:
        if not self.connection.eof_received():
            self.wire.close()
        await settle()

    async def later(self, seconds: float) -> None:
        cast(Clock, asyncio.get_running_loop()).skew += seconds
        await settle()

    def answers(self, *methods: str) -> list[tuple[int, dict[str, str], bytes]]:
        return parse(self.wire.data, *methods)


class FakeSocket:
    """A socket, as far as http.client needs one."""

    def __init__(self, data: bytes) -> None:
        self.file = OpenBytes(data)

    def makefile(self, mode: str) -> io.BytesIO:
        return self.file


class OpenBytes(io.BytesIO):
    def close(self) -> None:  # http.client closes after each answer; the next one follows here
        pass


def parse(data: bytes, *methods: str) -> list[tuple[int, dict[str, str], bytes]]:
    sock = FakeSocket(data)
    answers: list[tuple[int, dict[str, str], bytes]] = []
    while sock.file.tell() < len(data):
        method = methods[len(answers)] if len(answers) < len(methods) else "GET"
        answer = HTTPResponse(cast(socket.socket, sock), method=method)
        answer.begin()
        headers = {key.lower(): value for key, value in answer.getheaders()}
        answers.append((answer.status, headers, answer.read()))
    return answers


async def settle() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


async def counting(count: int) -> AsyncGenerator[bytes, None]:
    for number in range(count):
        await asyncio.sleep(0)
        yield b"%d\n" % number


@asynccontextmanager
async def client(
    handler: Callable[[HttpRequest], Awaitable[Reply]] | None = None, **limits: Any
) -> AsyncGenerator[Client, None]:
    """Yield a client whose loop must end without a complaint or a forgotten connection."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    open_client = Client(Echo(handler), ConnectionLimits(**limits))
    yield open_client
    open_client.wire.abort()
    await settle()
    assert complaints == []
    assert open_client.open == set()


def run(main: Callable[[], Any]) -> None:
    with asyncio.Runner(loop_factory=Clock) as runner:
        runner.run(main())


class Endless:
    """A stream that produces until it is closed, and takes a while to clean up."""

    def __init__(self, size: int, *, waits: bool) -> None:
        self.size, self.waits = size, waits
        self.produced = 0
        self.cleaned = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                if self.waits and self.produced:
                    await asyncio.Event().wait()
                self.produced += 1
                yield b"x" * self.size
        finally:
            await asyncio.sleep(0)
            self.cleaned = True

    async def handler(self, _: HttpRequest) -> Reply:
        return StreamingResponse(self.chunks())
