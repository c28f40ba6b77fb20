"""The workers: one supervised process per model, and the requests in flight in each."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import cast

from msgspec import structs

from ..engine.admission import Admission
from ..engine.request import AnyRequest, Embed, Event, Rank, Refusal, Refused, Request, StepReport
from ..engine.settings import Settings
from ..engine.wire import (
    VERSION,
    Cancel,
    Configure,
    LoadFailed,
    Ready,
    StepResult,
    Submit,
    ToWorker,
    WireError,
    server_channel,
)
from .log import Log

# The first restart is immediate; a worker that keeps dying is tried less and less often.
BACK_OFF = (0.0, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
STABLE = 60.0  # seconds of service after which the back-off starts anew
KILL_AFTER = 2.0  # seconds between asking a worker to end and ending it


class StartError(Exception):
    """A model cannot be served; the message is for the person at the command line."""


class EventStream:
    """A stream of the events of requests, and a None every `tick` seconds to look at the clock."""

    def __init__(self, worker: "Worker", ids: list[int], tick: float) -> None:
        self._worker = worker
        self._events: deque[Event | None] = deque()
        self._waiter: asyncio.Future[None] | None = None  # one reader: a queue would cost twice
        self._loop = asyncio.get_running_loop()
        self._open = set(ids)
        self._tick = tick
        self._timer = self._loop.call_later(tick, self._beat)

    async def next(self) -> Event | None:
        while not self._events:
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._events.popleft()

    def put(self, event: Event | None) -> None:
        self._events.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def over(self, request: int) -> None:
        """Note that a request has ended by itself: closing will not cancel it."""
        self._open.discard(request)

    def close(self) -> None:
        """Let go of the requests; those that are not over are cancelled in the worker."""
        self._timer.cancel()
        self._worker.forget(self._open)

    def _beat(self) -> None:
        self._timer = self._loop.call_later(self._tick, self._beat)
        self.put(None)


class _Pipe(asyncio.Protocol):
    """The server's end of a worker's socket."""

    def __init__(
        self,
        on_message: Callable[[Ready | LoadFailed | StepResult], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._channel = server_channel()
        self._on_message = on_message
        self._on_lost = on_lost
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def send(self, message: ToWorker) -> None:
        assert self._transport is not None
        self._transport.write(self._channel.frame(message))

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


class Worker:
    """A worker process that is started anew, with its model, whenever it dies."""

    def __init__(
        self, name: str, directory: Path, memory: int, settings: Settings, log: Log
    ) -> None:
        self.name = name
        # What the running worker said of itself; None while none runs.
        self.ready: Ready | None = None
        self.report: StepReport | None = None  # of the running worker's last step
        self.seconds = 0.0  # from the running worker's start to its readiness
        self.admission = Admission(settings.max_batch, settings.queue)
        self._configure = Configure(VERSION, str(directory), memory, settings)
        self._log = log
        self._numbers = itertools.count(1)
        self._streams: dict[int, EventStream] = {}
        self._pipe: _Pipe | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._lost = asyncio.Event()
        self._serving = asyncio.Event()
        self._failure = ""
        self._supervisor: asyncio.Task[None] | None = None

    async def start(self, settings: Callable[[], Awaitable[Settings]] | None = None) -> Ready:
        """Start the process and wait until the model is loaded. Raises StartError.

        Other `settings` than it was made with may come while the process starts.
        """
        await self._spawn(settings)
        await self._until_ready()
        if self.ready is None:
            await self._reap()
            raise StartError(f"{self.name}: {self._failure or self._ending()}")
        self._supervisor = asyncio.create_task(self._supervise())
        return self.ready

    async def stop(self) -> None:
        """End the process for good; what is in flight is refused."""
        if self._supervisor is not None:
            self._supervisor.cancel()
        if self.ready is None:  # it loads or compiles, and has nothing to lose
            self._kill()
        await self._reap()
        self.refuse_all(Refusal(503, "shutting_down", "The server is shutting down."))

    async def available(self, patience: float) -> Ready:
        """Return what the running worker said of itself; wait `patience` seconds for a restart."""
        if self.ready is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._serving.wait(), patience)
        if self.ready is None:
            raise Refusal(
                503,
                "model_loading",
                f"The worker of {self.name!r} is being restarted; try again soon.",
                retry_after=2,
            )
        return self.ready

    def number(self) -> int:
        """Return an id for a new request, never used before in this server."""
        return next(self._numbers)

    def open(self, requests: Iterable[AnyRequest], tick: float) -> EventStream:
        """Send requests off; their events come through the stream."""
        batch = list(requests)
        self._log.debug(f"{self.name} is asked {', '.join(map(_described, batch))}")
        stream = EventStream(self, [request.id for request in batch], tick)
        self._streams |= dict.fromkeys([request.id for request in batch], stream)
        if self._pipe is None:
            self.refuse_all(self._died())
        else:
            self._pipe.send(Submit(batch))
        return stream

    def forget(self, requests: set[int]) -> None:
        gone = [number for number in requests if self._streams.pop(number, None)]
        if gone and self._pipe is not None:
            self._pipe.send(Cancel(gone))

    async def _spawn(self, settings: Callable[[], Awaitable[Settings]] | None = None) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._lost.clear()
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "bessemer.engine.worker", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a terminal's Ctrl-C is for the server, which ends it
                env=os.environ | {"OMP_NUM_THREADS": str(self._configure.settings.threads)},
            )
        _, self._pipe = await asyncio.get_running_loop().create_unix_connection(
            lambda: _Pipe(self._receive, self._lost.set), sock=ours
        )
        self._log.debug(f"the worker of {self.name} is process {self._process.pid}")
        if settings is not None:
            self._configure = structs.replace(self._configure, settings=await settings())
        self._pipe.send(self._configure)

    async def _until_ready(self) -> None:
        """Wait until the worker is ready, has failed or is gone."""
        began = asyncio.get_running_loop().time()
        waits = [asyncio.create_task(event.wait()) for event in (self._serving, self._lost)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        self.seconds = asyncio.get_running_loop().time() - began

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        attempt, since = 0, loop.time()
        while True:
            await self._lost.wait()
            self.ready = None
            self._serving.clear()
            self.refuse_all(self._died())
            await self._reap()
            attempt = 0 if loop.time() - since > STABLE else attempt
            delay = BACK_OFF[min(attempt, len(BACK_OFF) - 1)]
            self._log.warning(f"the worker of {self.name} died; starting it anew in {delay:g} s")
            await asyncio.sleep(delay)
            attempt, since = attempt + 1, loop.time()
            try:
                await self._spawn()
                await self._until_ready()
            except OSError as error:  # no process, no descriptor, no memory to be had just now
                self._log.error(f"the worker of {self.name} cannot be started: {error}")
                self._lost.set()
            if self.ready is not None:
                self._log.info(f"the worker of {self.name} serves again")

    async def _reap(self) -> None:
        """Close the socket, which a worker takes as the order to end, and see that it does."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if self._process is None:
            return
        try:
            await asyncio.wait_for(self._process.wait(), KILL_AFTER)
        except TimeoutError:
            self._kill()
            await self._process.wait()

    def _kill(self) -> None:
        """End the process with the compilers that it may have started."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _receive(self, message: Ready | LoadFailed | StepResult) -> None:
        match message:
            case StepResult(events, report):
                self.report = report
                for event in events:
                    self._deliver(event)
            case Ready():
                self._log.debug(f"the worker of {self.name} is ready: {message.plan}")
                self.ready, self.report = message, None
                self._serving.set()
            case LoadFailed(reason):
                self._failure = reason
                if self._supervisor is not None:  # at start it is an error of the command
                    self._log.error(f"{self.name}: {reason}")

    def _deliver(self, event: Event) -> None:
        stream = self._streams.get(event.request)
        if stream is None:
            return  # cancelled while the event was on its way
        if event.over:
            del self._streams[event.request]
            stream.over(event.request)
        stream.put(event)

    def _ending(self) -> str:
        """Say of what a process ended that said nothing itself."""
        code = None if self._process is None else self._process.returncode
        if code is None or code >= 0:
            return f"its worker process ended with exit code {code} while it loaded"
        why = ", as the system does where memory is short" if code == -signal.SIGKILL else ""
        return f"its worker process was ended by {signal.Signals(-code).name} while it loaded{why}"

    def _died(self) -> Refusal:
        return Refusal(
            503,
            "worker_died",
            f"The worker process of {self.name!r} died and is being restarted; try again.",
            retry_after=1,
        )

    def refuse_all(self, refusal: Refusal) -> None:
        """End everything in flight with this refusal."""
        for number in list(self._streams):
            self._deliver(Refused.of(number, refusal))


def _described(request: AnyRequest) -> str:
    """Say how much a request asks for; never what."""
    match request:
        case Request():
            size = f"{len(request.tokens)} tokens, at most {request.max_tokens} more"
        case Embed():
            size = f"{len(request.inputs)} inputs"
        case Rank():
            size = f"{len(request.documents)} documents"
    return f"{request.id} ({size})"
