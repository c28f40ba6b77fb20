"""The workers: one supervised process per model, and the requests in flight in each."""

import asyncio
import contextlib
import itertools
import math
import signal
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from pathlib import Path

from ..engine.admission import Admission
from ..engine.request import (
    AnyRequest,
    Embed,
    Event,
    Rank,
    Refusal,
    Refused,
    Request,
    StepReport,
    overloaded,
    shutting_down,
)
from ..engine.settings import Settings
from ..engine.wire import (
    VERSION,
    Cancel,
    Configure,
    FromWorker,
    LoadFailed,
    Pulse,
    Ready,
    StepResult,
    Submit,
)
from .event_stream import BUSY, KEPT, NOT_READ, TOO_MANY, UNREAD, Backlog, EventStream
from .log import Log
from .machine import memory_kills
from .pace import Pace
from .shortage import Shortage
from .watchdog import Limits, Watchdog
from .worker_process import Launch, Process, cause, launch

# The first restart is immediate; a worker that keeps dying is tried less and less often.
BACK_OFF = (0.0, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
STABLE = 10.0  # seconds of service after which a death is a first one again, as launchd's, Docker's
STARTS = 3  # of a first process that hangs before it has ever served; then the model cannot be
KILL_AFTER = 2.0  # seconds between asking a worker to end and ending it
UNSENT = 4 * 2**20  # bytes that may wait for a worker to read them when one more request comes
LATEST = 30  # seconds that a client is told to wait for a model of which nobody knows more


class StartError(Exception):
    """A model cannot be served; the message is for the person at the command line."""


class State(Enum):
    """The state of a worker: LOADING until its process is READY, RESTARTING once that is lost.

    It is DOWN where no other process is started, because memory is too short for one.
    """

    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    DOWN = "down"
    STOPPED = "stopped"


class Worker:
    """A worker process that is started anew, with its model, whenever it dies or hangs.

    A request is taken in the state READY and refused in every other one. `memory`, in bytes, is
    the next process's; `exit_code` is the last one's.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        memory: int,
        settings: Settings,
        log: Log,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        launch: Launch = launch,
        kills: Callable[[], int] = memory_kills,
        pace: Pace | None = None,
    ) -> None:
        self.name = name
        self.memory = memory
        self.exit_code: int | None = None
        self.state = State.LOADING
        self.report: StepReport | None = None  # of the running worker's last step
        self.seconds = 0.0  # from the latest start to readiness
        self.progress = -math.inf  # when the running worker was last seen to get on
        self.admission = Admission(settings.max_batch, settings.queue)
        self._directory, self._settings = str(directory), settings
        self._log, self._limits, self._launch = log, limits, launch
        self._kills, self._shortage = kills, Shortage(memory)
        self._numbers = itertools.count(1)
        self._streams: dict[int, EventStream] = {}
        self._pace = pace or Pace()
        self._unread, self._kept = Backlog(UNREAD, NOT_READ, BUSY), Backlog(KEPT, TOO_MANY)
        self._process: Process | None = None
        self._watchdog = Watchdog(limits)
        self._ready: Ready | None = None
        self._lost = asyncio.Event()  # the running process is
        self._settled = asyncio.Event()  # it is READY, or will never be
        self._first: asyncio.Future[Ready] | None = None
        self._life: asyncio.Task[None] | None = None
        self._failure = ""
        self._attempt = 0  # the place in BACK_OFF of the next restart
        self._began = self._served = self._again = 0.0  # loading, serving, the next start

    async def start(self) -> Ready:
        """Start the process and wait until the model is loaded. Raises StartError."""
        self._first = asyncio.get_running_loop().create_future()
        self._life = asyncio.create_task(self._live())
        return await self._first

    async def stop(self) -> None:
        """End the process for good; what is in flight is refused."""
        self.state = State.STOPPED
        self._settled.set()
        self.refuse_all(shutting_down())
        if self._first is not None:
            self._first.cancel()
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life])
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(TimeoutError):  # it may hang in the kernel
                async with asyncio.timeout(KILL_AFTER):
                    await self._process.end(KILL_AFTER)

    @property
    def ready(self) -> Ready | None:
        """What the running worker said of itself; None while none serves."""
        return self._ready if self.state is State.READY else None

    @property
    def hangs(self) -> bool:
        """Whether the running worker seems to: it will be ended, or be heard again."""
        return self.state is State.READY and self._watchdog.worried

    @property
    def stage(self) -> str:
        """What is being done while it is LOADING."""
        return self._watchdog.pulse.doing if self.state is State.LOADING else ""

    @property
    def why_down(self) -> str:
        """Why no other process is started, where that is so."""
        return self._shortage.why if self.state is State.DOWN else ""

    @property
    def retry_after(self) -> int:
        """The whole seconds after which the model should serve, as far as is known."""
        now = asyncio.get_running_loop().time()
        if self.state is State.READY:
            return 1
        if self.state is State.DOWN:
            return LATEST
        if self.state is State.RESTARTING:
            return math.ceil(max(self._again - now, 0.0) + max(self.seconds, 1.0))
        past = now - self._began
        left = self.seconds - past if self.seconds > past else min(1 + past / 2, LATEST)
        return max(math.ceil(left), 1)

    async def available(self, patience: float) -> Ready:
        """Return what the running worker said of itself; wait `patience` seconds for a restart.

        Raises Refusal if there is none by then, and at once if that can be told before.
        """
        if self.state is not State.READY and self.retry_after <= patience:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._settled.wait()
        if self.ready is None:
            raise self.unavailable()
        return self.ready

    def unavailable(self) -> Refusal:
        """Return the refusal of what is asked of a model that is not ready."""
        match self.state:
            case State.STOPPED:
                return shutting_down()
            case State.RESTARTING:
                code, what = "worker_died", "The worker process of {!r} died and is being restarted"
            case State.DOWN:
                message = f"The model {self.name!r} is down: {self.why_down}."
                return Refusal(503, "worker_died", message, retry_after=self.retry_after)
            case _:
                at = f" ({self.stage})" if self.stage else ""
                code, what = "model_loading", "The model {!r} is being loaded" + at
        message = f"{what.format(self.name)}; try again."
        return Refusal(503, code, message, retry_after=self.retry_after)

    def number(self) -> int:
        """Return an id for a new request, never used before in this server."""
        return next(self._numbers)

    def open(
        self,
        requests: Iterable[AnyRequest],
        tick: float,
        first: float | None = None,
        kept: bool = False,
    ) -> EventStream:
        """Send requests off; their events come through the stream. Raises Refusal if they cannot.

        No request is kept for later: a worker that is not ready, or reads nothing, is sent none.
        The `first` tick may come sooner. The events are `kept` where the answer is one piece.
        """
        batch = list(requests)
        self._log.debug(f"{self.name} is asked {', '.join(map(_described, batch))}")
        if self.state is not State.READY or self._process is None:
            raise self.unavailable()
        if self._process.unsent > UNSENT:
            raise overloaded()
        if not self._process.send(Submit(batch)):
            self._lose(self._lost)  # of which nobody has been told yet
            raise self.unavailable()
        ids = [request.id for request in batch]
        about = self._pace, self._unread, self._kept if kept else None
        stream = EventStream(ids, tick, self.forget, *about, first=first)
        self._streams |= dict.fromkeys(ids, stream)
        return stream

    def forget(self, requests: set[int]) -> None:
        gone = [number for number in requests if self._streams.pop(number, None)]
        if gone and self.state is State.READY and self._process is not None:
            self._process.send(Cancel(gone))

    async def _live(self) -> None:
        """Start one process after another."""
        hangs, loop = 0, asyncio.get_running_loop()
        while True:
            try:
                death, hung = await self._run()
            except OSError as error:  # no process, no descriptor, no memory to be had just now
                death, hung = f"cannot be started: {error}", False
                self._lose(self._lost)
            self._process = None
            hangs += hung
            if self._first is not None and not self._first.done() and (not hung or hangs == STARTS):
                why = self._failure or f"its worker process {death}"
                self._first.set_exception(StartError(f"{self.name}: {why}"))
                return
            if self._shortage.why:
                self.state = State.DOWN
                self._settled.set()
                self._log.error(f"the model {self.name} stays down: {self._shortage.why}")
                return
            delay = max(self._again - loop.time(), 0.0)
            self._log.warning(f"the worker of {self.name} {death}; restarting it in {delay:.2g} s")
            await asyncio.sleep(delay)

    async def _run(self) -> tuple[str, bool]:
        """Start a process, and see it to its end; return what that was, and if it hung."""
        loop = asyncio.get_running_loop()
        self._watchdog, self._lost, self._failure = Watchdog(self._limits), asyncio.Event(), ""
        self.state, self._began = State.LOADING, loop.time()
        lost, hung = self._lost, ""
        on_lost = partial(self._lose, lost)
        kills = self._kills()
        process = await self._launch(self._settings.threads, self._receive, on_lost)
        self._process = process
        process.send(Configure(VERSION, self._directory, self.memory, self._settings))
        while not lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.tick):  # wait_for may swallow a stop
                    await lost.wait()
                continue
            if hung := self._watchdog.look():
                process.kill()
                self._lose(lost)
        self.exit_code = await process.end(KILL_AFTER)
        if hung:
            return f"hung: {hung}", True
        if self.exit_code == -signal.SIGKILL and self._kills() > kills:
            self.memory = self._shortage.killed(self.memory)
            return "was killed by the system because memory was short", False
        if self._failure:
            self._shortage.failed(self._failure)
        return cause(self.exit_code), False

    def _lose(self, lost: asyncio.Event) -> None:
        """Note, as soon as it is known and once, that a process is lost; `lost` is its own."""
        if lost.is_set() or self.state is State.STOPPED:
            return
        lost.set()
        self._settled.clear()
        now = asyncio.get_running_loop().time()
        if self.state is State.READY:
            self._attempt = 0 if now - self._served > STABLE else self._attempt
            self._shortage.served(now - self._served)
        self._again = now + BACK_OFF[min(self._attempt, len(BACK_OFF) - 1)]
        self._attempt += 1
        self.state = State.RESTARTING
        self.refuse_all(self.unavailable())

    def _receive(self, message: FromWorker) -> None:
        match message:
            case StepResult(events, report):
                self.report = report
                self._watchdog.stepped()
                if report.rows:
                    self._get_on()
                for event in events:
                    self._deliver(event)
            case Pulse(doing):
                if self._watchdog.beat(message) and not doing:
                    self._get_on()  # texts are being tokenized
            case Ready():
                self._serve(message)
            case LoadFailed(reason):
                self._failure = reason
                if self._first is None or self._first.done():  # else it is the command's error
                    self._log.error(f"{self.name}: {reason}")

    def _get_on(self) -> None:
        self.progress = asyncio.get_running_loop().time()

    def _serve(self, ready: Ready) -> None:
        """Serve from now on."""
        self._log.debug(f"the worker of {self.name} is ready: {ready.plan}")
        self._watchdog.stepped()
        self._get_on()
        again, self._ready, self.report = self._ready is not None, ready, None
        self.state, self._served = State.READY, self.progress
        self.seconds = self._served - self._began
        self._settled.set()
        if self._first is not None and not self._first.done():
            self._first.set_result(ready)
        if again:
            self._log.info(f"the worker of {self.name} serves again")

    def _deliver(self, event: Event) -> None:
        stream = self._streams.get(event.request)
        if stream is None:
            return  # cancelled while the event was on its way
        if event.over:
            del self._streams[event.request]
            stream.over(event.request)
        stream.put(event)

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
