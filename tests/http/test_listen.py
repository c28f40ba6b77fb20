"""Real sockets on the loopback: connects, stopping, and what goes wrong at start."""

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from bessemer.engine.request import Refusal
from bessemer.http import listen as listening
from bessemer.http.config import UsageError
from bessemer.http.connection import Connection
from bessemer.http.limits import ConnectionLimits
from bessemer.http.listen import Shutdown, address, bind, listen
from bessemer.http.message import HttpRequest, Reply, Response, StreamingResponse

COUNT = 64  # connections at once
PATIENCE = 20.0  # seconds until a hanging test fails; nothing waits for it


class App:
    """Streams go on until they are interrupted, cancelled or let go."""

    def __init__(self) -> None:
        self.interrupted = asyncio.Event()
        self.free = asyncio.Event()
        self.answered = self.streams = 0
        self.ended: list[str] = []

    def admit(self, request: HttpRequest) -> HttpRequest:
        return request

    async def __call__(self, request: HttpRequest) -> Reply:
        self.answered += 1
        if request.path == "/nodelay":
            return Response(200, b"yes")
        if request.path == "/stream":
            return StreamingResponse(self.chunks())
        if request.path == "/deaf":
            return StreamingResponse(self.deaf())
        if request.path == "/wait":
            return await self.wait()
        return Response(200, b"hello")

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        yield b"begun "
        waits = [asyncio.ensure_future(e.wait()) for e in (self.interrupted, self.free)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        yield b"interrupted" if self.interrupted.is_set() else b"finished"

    async def deaf(self) -> AsyncGenerator[bytes, None]:
        yield b"begun "
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise

    async def wait(self) -> Response:
        try:
            await self.free.wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        return Response(200, b"waited")

    def refuse(self, request: HttpRequest, refusal: Refusal) -> Response:
        return Response(refusal.status, refusal.code.encode())

    def crashed(self, request: HttpRequest, error: Exception) -> None:
        raise error

    def finished(self, request: HttpRequest, status: int, sent: int, seconds: float) -> None:
        pass


class Served:
    """A server in a thread; `call` runs a function on its loop."""

    def __init__(self, grace: float) -> None:
        self.sockets = bind("127.0.0.1", 0)
        self.port = self.sockets[0].getsockname()[1]
        self.ready = threading.Event()
        self.grace = grace
        self.open: list[http.client.HTTPConnection | http.client.HTTPResponse] = []
        self.thread = threading.Thread(target=listening.run, args=(self.main(),))
        self.thread.start()
        assert self.ready.wait(PATIENCE)

    async def main(self) -> int:
        self.app, self.shutdown = App(), Shutdown()
        self.loop = asyncio.get_running_loop()
        self.ready.set()
        await listen(
            self.app,
            self.sockets,
            ConnectionLimits(),
            self.shutdown,
            grace=self.grace,
            interrupt=self.app.interrupted.set,
        )
        return 0

    def call(self, function: Any) -> None:
        self.loop.call_soon_threadsafe(function)

    def get(self, path: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request("GET", path)
        answer = connection.getresponse()
        self.open += [connection, answer]
        return connection, answer

    def join(self) -> None:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@contextmanager
def served(grace: float = PATIENCE) -> Iterator[Served]:
    server = Served(grace)
    try:
        yield server
    finally:
        with suppress(RuntimeError):  # its loop is closed already
            server.call(server.shutdown.request)
            server.call(server.shutdown.request)
        for each in server.open:
            each.close()
        server.join()


def test_sixty_four_connects_at_once() -> None:
    def one(_: int) -> bytes:
        return server.get("/")[1].read()

    with served() as server, ThreadPoolExecutor(64) as pool:
        assert list(pool.map(one, range(64))) == [b"hello"] * 64


def test_many_are_accepted_in_a_turn() -> None:
    async def main() -> int:
        app, shutdown, (sock,) = App(), Shutdown(), bind("127.0.0.1", 0)
        clients = [socket.create_connection(sock.getsockname()) for _ in range(COUNT)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        listening = asyncio.create_task(
            listen(app, [sock], ConnectionLimits(), shutdown, grace=0, interrupt=lambda: None)
        )
        turns = 0
        while app.answered < COUNT:
            turns += 1
            await asyncio.sleep(0)
        shutdown.at_once()
        await listening
        for client in clients:
            client.close()
        return turns

    assert listening.run(main()) < COUNT // 2
    assert sys.getswitchinterval() == pytest.approx(listening.SWITCH)
    assert listening.SWITCH <= 0.001  # Python's own is 0.005, which others would wait


@pytest.mark.parametrize(
    ("files", "connections"), [(10, 5), (10**6, ConnectionLimits().connections)]
)
def test_connections_take_half_of_the_descriptors_at_most(
    files: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Noted(Connection):
        def __init__(self, app: Any, limits: ConnectionLimits, *others: Any) -> None:
            seen.append(limits.connections)
            super().__init__(app, limits, *others)

    monkeypatch.setattr(listening, "Connection", Noted)
    monkeypatch.setattr(listening, "descriptors", lambda: files)
    with served() as server:
        assert server.get("/")[1].read() == b"hello"
    assert seen == [connections]


def test_keep_alive() -> None:
    with served() as server:
        connection, answer = server.get("/")
        assert answer.read() == b"hello"
        sock = connection.sock
        for _ in range(3):
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"hello"
        assert connection.sock is sock


def test_a_stop_lets_streams_end_and_closes_what_is_idle() -> None:
    with served() as server:
        idle, answer = server.get("/")
        answer.read()
        stream = server.get("/stream")[1]
        assert stream.read1() == b"begun "
        server.call(server.shutdown.request)
        assert idle.sock.recv(1) == b""  # closed by the server
        with pytest.raises(ConnectionError):
            server.get("/")
        server.call(server.app.free.set)
        assert stream.read() == b"finished"
        server.join()


def test_after_the_grace_period_streams_are_interrupted() -> None:
    with served(grace=0.05) as server:
        stream = server.get("/stream")[1]
        assert stream.read1() == b"begun "
        server.call(server.shutdown.request)
        assert stream.read() == b"interrupted"  # with the terminating chunk
        server.join()


def test_what_does_not_listen_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "LAST_WORDS", 0.05)
    with served(grace=0.05) as server:
        stream = server.get("/deaf")[1]
        assert stream.read1() == b"begun "
        server.call(server.shutdown.request)
        with pytest.raises(http.client.IncompleteRead):
            stream.read()
        server.join()
        assert server.app.ended == ["cancelled"]


def test_asked_twice_it_stops_at_once() -> None:
    with served(grace=1000) as server:
        stream = server.get("/deaf")[1]
        assert stream.read1() == b"begun "
        server.call(server.shutdown.request)
        server.call(server.shutdown.request)
        with pytest.raises(http.client.IncompleteRead):
            stream.read()
        server.join()


PROGRAM = """
import asyncio, sys
from bessemer.http.limits import ConnectionLimits
from bessemer.http.listen import Shutdown, bind, listen, run
from bessemer.http.message import Response

class App:
    def admit(self, request): return request
    async def __call__(self, request):
        print("begun", flush=True)
        await asyncio.Event().wait()
    def refuse(self, request, refusal):
        return Response(refusal.status, refusal.code.encode())
    def crashed(self, request, error): raise error
    def finished(self, *_): pass

async def main():
    shutdown = Shutdown()
    shutdown.on_signals()
    sockets = bind("127.0.0.1", 0)
    print(sockets[0].getsockname()[1], flush=True)
    await listen(App(), sockets, ConnectionLimits(), shutdown, grace=1000, interrupt=lambda: None)
    return 7

sys.exit(run(main()))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(number: signal.Signals) -> None:
    with started() as process:
        assert process.stdout is not None and process.stderr is not None
        port = int(process.stdout.readline())
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        connection.request("GET", "/")
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(number)
        refused(port)
        assert process.poll() is None  # an exchange is open
        process.send_signal(number)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (503, b"shutting_down")
        connection.close()
        assert process.wait(PATIENCE) == 7
        assert process.stderr.read() == b""


@contextmanager
def started() -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def refused(port: int) -> None:
    """Wait until nobody listens."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:  # it was in the backlog when the socket was closed
            continue


def test_interrupted_before_it_listens() -> None:
    async def main() -> int:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(PATIENCE)
        return 0

    assert listening.run(main()) == 130


def test_the_socket_has_no_delay() -> None:
    seen: list[int] = []

    class Probe(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            sock = transport.get_extra_info("socket")
            seen.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.close()

    async def main() -> int:
        [sock] = bind("127.0.0.1", 0)
        server = await asyncio.get_running_loop().create_server(Probe, sock=sock)
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        assert await reader.read() == b""
        writer.close()
        server.close()
        return 0

    assert listening.run(main()) == 0
    assert seen == [1]


def test_a_port_in_use() -> None:
    [sock] = bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    with sock, pytest.raises(UsageError, match=f"^port {port} is in use by another program; "):
        bind("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "a" * 300, "1.2.3.4.5"])
def test_a_host_that_is_not_ours(host: str) -> None:
    with pytest.raises(UsageError, match="is no address of this machine"):
        bind(host, 0)


def test_all_addresses_share_one_port() -> None:
    sockets = bind("localhost", 0)
    assert len({sock.getsockname()[1] for sock in sockets}) == 1
    for sock in sockets:
        sock.close()


def test_address() -> None:
    [sock] = bind("127.0.0.1", 0)
    with sock:
        assert address([sock]) == f"http://127.0.0.1:{sock.getsockname()[1]}"
