"""Sockets, signals and the event loop, from the first connection to the last."""

import asyncio
import errno
import resource
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import uvloop

from ..engine.command_line import INTERRUPTED
from .body import BodyBudget
from .config import UsageError
from .connection import Connection
from .limits import ConnectionLimits
from .message import App
from .read_queue import ReadQueue

BACKLOG = 2048  # connects that may wait for accept(); the kernel lowers it to its own limit
ACCEPTS = 16  # connections that are accepted in a turn of the event loop; libuv takes one a handle
DESCRIPTORS = 4096  # connections take a part; macOS begins with 256
SWITCH = 5e-4  # seconds that a thread holds the interpreter while the event loop waits for it
POLL = 0.02  # seconds between two looks at what is still open while stopping
LAST_WORDS = 1.0  # seconds to send what interrupted streams have to say
REACHED = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # what a client here can connect to


def bind(host: str, port: int) -> list[socket.socket]:
    """Listen on each address of `host`, on one port where `port` is 0. Raises UsageError."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise UsageError(f"{host!r} is no address of this machine; choose another --host") from None
    bound: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((each[0], each[4]) for each in addresses):
            bound.append(_open(family, (address[0], port, *address[2:])))
            port = bound[-1].getsockname()[1]
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL or not bound:  # such as ::1 where IPv6 is off
            for sock in bound:
                sock.close()
            raise _explain(error, host, port) from None
    return bound


def _open(family: int, address: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _explain(error: OSError, host: str, port: int) -> UsageError:
    sentences = {
        errno.EADDRINUSE: f"port {port} is in use by another program; "
        "choose another with --port or stop it",
        errno.EACCES: f"port {port} needs a privilege that this user has not; "
        "choose one above 1023 with --port",
        errno.EADDRNOTAVAIL: f"{host!r} is no address of this machine; choose another --host",
    }
    general = f"cannot listen on {host} port {port} ({error.strerror}); choose another --host"
    return UsageError(sentences.get(error.errno or 0, general))


def address(sockets: Sequence[socket.socket]) -> str:
    """Return the URL of the first socket."""
    bound, port = sockets[0].getsockname()[:2]
    host = str(REACHED.get(bound, bound))
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Shutdown:
    """A request to stop: once, the server stops gracefully; again, at once."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.urgent = asyncio.Event()

    def request(self) -> None:
        (self.urgent if self.requested.is_set() else self.requested).set()

    def at_once(self) -> None:
        self.requested.set()
        self.urgent.set()

    def on_signals(self, hup: Callable[[], object] | None = None) -> None:
        """Stop at a signal; `hup` is called at SIGHUP instead, which is ignored if it was before.

        Without one, the terminal hangs up, unless nohup keeps that from us.
        """
        add = asyncio.get_running_loop().add_signal_handler
        for number in (signal.SIGINT, signal.SIGTERM):
            add(number, self.request)
        if hup is not None or signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            add(signal.SIGHUP, hup or self.request)


async def listen(
    app: App,
    sockets: Sequence[socket.socket],
    limits: ConnectionLimits,
    shutdown: Shutdown,
    *,
    grace: float,
    interrupt: Callable[[], None],
) -> None:
    """Answer on `sockets` until `shutdown` is requested and everything open is closed.

    Exchanges may go on for `grace` seconds. Then `interrupt` is called: it must make every answer
    under way fail with an error event, as after a worker's death. What is still open a second
    later is cancelled: handlers and chunk iterators see CancelledError.
    """
    loop = asyncio.get_running_loop()
    connections: set[Connection] = set()
    budget, queue = BodyBudget(max(limits.bodies, limits.body)), ReadQueue()
    limits = replace(limits, connections=min(limits.connections, descriptors() // 2))

    def connect() -> Connection:
        return Connection(app, limits, connections, budget, queue)

    handles = [*sockets, *(sock.dup() for sock in sockets for _ in range(ACCEPTS - 1))]
    servers = [await loop.create_server(connect, sock=s, backlog=BACKLOG) for s in handles]
    await shutdown.requested.wait()
    for server in servers:
        server.close()
    await _emptied(connections, shutdown, grace)
    if connections:
        interrupt()
        await _emptied(connections, shutdown, LAST_WORDS)
    await _cut(connections)


def descriptors() -> int:
    """Return how many files this process may open, raising the limit as far as is of use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


async def _emptied(connections: set[Connection], shutdown: Shutdown, patience: float) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + patience
    while not shutdown.urgent.is_set() and loop.time() < end:
        for connection in tuple(connections):  # each time: one may have been accepted since
            connection.stop()
        if not connections:
            return
        await asyncio.sleep(POLL)


async def _cut(connections: set[Connection]) -> None:
    for connection in tuple(connections):
        connection.cut()
    for _ in range(3):  # a step to cancel, one to answer, one for what a closing iterator awaits
        await asyncio.sleep(POLL if connections else 0)
    for connection in tuple(connections):
        connection.abort()
    await asyncio.sleep(0)


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run `main` on uvloop and return its result, the exit code."""
    sys.setswitchinterval(SWITCH)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main)
    except KeyboardInterrupt:  # before on_signals
        return INTERRUPTED
