"""A worker's process, and the server's end of its socket."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from typing import Protocol, cast

from ..engine.wire import FromWorker, ToWorker, WireError, server_channel
from .environment import for_worker


class Process(Protocol):
    """A worker that was started; `unsent` bytes wait for it to read them."""

    @property
    def unsent(self) -> int: ...

    def send(self, message: ToWorker) -> bool:
        """Send a message; return whether there is still somebody to take it."""
        ...

    def kill(self) -> None:
        """Hear no more of it, and end it."""
        ...

    async def end(self, patience: float) -> int | None:
        """Close the socket, which a worker takes as the order to end; return its exit code.

        It is killed if it has not ended after so many seconds.
        """
        ...


Launch = Callable[[int, Callable[[FromWorker], None], Callable[[], None]], Awaitable[Process]]


class Pipe(asyncio.Protocol):
    """The server's end of a worker's socket."""

    def __init__(
        self, on_message: Callable[[FromWorker], None], on_lost: Callable[[], None]
    ) -> None:
        self._channel = server_channel()
        self._on_message = on_message
        self._on_lost = on_lost
        self._transport: asyncio.WriteTransport | None = None

    @property
    def unsent(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def send(self, message: ToWorker) -> bool:
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(self._channel.frame(message))
        return True

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._channel.feed(data):
                self._on_message(message)
        except WireError:
            self.close()  # a worker that talks nonsense is treated as dead

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost()


class WorkerProcess:
    """A process that runs engine.worker."""

    def __init__(self, process: asyncio.subprocess.Process, pipe: Pipe) -> None:
        self._process = process
        self._pipe = pipe

    @property
    def unsent(self) -> int:
        return self._pipe.unsent

    def send(self, message: ToWorker) -> bool:
        return self._pipe.send(message)

    def kill(self) -> None:
        """Kill it, and the compilers that it may have started."""
        self._pipe.close()
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def end(self, patience: float) -> int | None:
        self._pipe.close()
        try:
            async with asyncio.timeout(patience):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        return self._process.returncode


async def launch(
    threads: int, on_message: Callable[[FromWorker], None], on_lost: Callable[[], None]
) -> Process:
    """Start a process whose libraries use so many threads. Raises OSError."""
    ours, theirs = socket.socketpair()
    with ExitStack() as stack:
        stack.callback(ours.close)  # if this fails; the process then ends by itself
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "bessemer.engine.worker", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a terminal's Ctrl-C is for the server, which ends it
                env=for_worker(os.environ, threads),
            )
        connect = asyncio.get_running_loop().create_unix_connection
        _, pipe = await connect(lambda: Pipe(on_message, on_lost), sock=ours)
        stack.pop_all()
    return WorkerProcess(process, pipe)


def cause(code: int | None) -> str:
    """Say what a process died of."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    why = ", as the system does where memory is short" if code == -signal.SIGKILL else ""
    return f"was ended by {name}{why}"
