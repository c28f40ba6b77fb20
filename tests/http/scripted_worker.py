"""A worker whose processes follow a test's orders, on a clock that the test turns."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, cast

from bessemer.engine.memory import Plan
from bessemer.engine.request import Event, GenerationDefaults, Refused, Request, StepReport
from bessemer.engine.settings import Settings
from bessemer.engine.wire import (
    VERSION,
    Cancel,
    Configure,
    LoadFailed,
    Pulse,
    Ready,
    StepResult,
    Submit,
)
from bessemer.http.event_stream import EventStream
from bessemer.http.fleet import Worker
from bessemer.http.log import Log
from bessemer.http.watchdog import Limits
from tests.http.wire import Clock, run, settle
from tests.translate.test_answer import VOCABULARY

READY = Ready(VERSION, Plan(1, 2, 3, 4, 5, 200), "llama", GenerationDefaults(), VOCABULARY)
LIMITS = Limits(silence=8, standstill=80)
NUMBERS = count(1)
LATE = 10  # seconds, of the test's clock, that only what never comes takes


class ScriptedProcess:
    """A process that does nothing by itself; `sent` is what the server said to it."""

    def __init__(self, on_message: Callable[[Any], None], on_lost: Callable[[], None]) -> None:
        self._on_message, self._on_lost = on_message, on_lost
        self.sent: list[Any] = []
        self.unsent = 0
        self.closing = self.killed = False
        self.code = -9
        self._over = asyncio.Event()

    def send(self, message: Any) -> bool:
        if not self.closing:
            self.sent.append(message)
        return not self.closing

    def kill(self) -> None:
        self.killed = self.closing = True
        self._over.set()

    async def end(self, patience: float) -> int:
        self.closing = True
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._over.wait()
        return self.code

    # What the test orders.

    def say(self, *messages: Any) -> None:
        for message in messages:
            self._on_message(message)

    def ready(self) -> None:
        self.say(READY)

    def step(self, *events: Event, rows: int = 1) -> None:
        self.say(StepResult(list(events), StepReport(rows=rows)))

    def fail(self, reason: str) -> None:
        self.say(LoadFailed(reason))
        self.die(1)

    def die(self, code: int = -9) -> None:
        self.code, self.closing = code, True
        self._over.set()
        self._on_lost()

    @property
    def requests(self) -> list[int]:
        """The ids of what was submitted."""
        return [each.id for m in self.sent if isinstance(m, Submit) for each in m.requests]

    @property
    def cancelled(self) -> list[int]:
        return [number for m in self.sent if isinstance(m, Cancel) for number in m.requests]


class ScriptedFleet:
    """A worker, and all processes that it had."""

    def __init__(self, **changes: Any) -> None:
        self.processes: list[ScriptedProcess] = []
        self.failing: OSError | None = None
        self.lines = io.BytesIO()
        self.log = Log("info", self.lines)
        self.kills = 0  # that the system did, of any process
        about = {"limits": LIMITS, "launch": self._launch, "kills": lambda: self.kills} | changes
        self.worker = Worker("m", Path("/m"), 1000, Settings(threads=3), self.log, **about)
        self.complaints: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.starting: asyncio.Task[Ready] | None = None

    async def _launch(self, threads: int, *callbacks: Any) -> ScriptedProcess:
        assert threads == 3
        if self.failing is not None:
            raise self.failing
        self.processes.append(ScriptedProcess(*callbacks))
        return self.processes[-1]

    @property
    def process(self) -> ScriptedProcess:
        return self.processes[-1]

    async def start(self) -> ScriptedProcess:
        """Start the first process, which is not ready yet."""
        self.starting = asyncio.create_task(self.worker.start())
        await settle()
        assert isinstance(self.process.sent[0], Configure)
        return self.process

    async def started(self) -> ScriptedProcess:
        process = await self.start()
        process.ready()
        await settle()
        return process

    async def stop(self) -> str:
        """Stop, and return the log; nothing may be left behind."""
        await self.worker.stop()
        if self.starting is not None:
            await asyncio.gather(self.starting, return_exceptions=True)
        await settle()
        self.log.close()
        assert self.complaints == []
        assert timers() == []
        return self.lines.getvalue().decode()


async def later(seconds: float) -> None:
    """Let time pass in which the server slept."""
    cast(Clock, asyncio.get_running_loop()).skew += seconds
    await settle()


async def wait(seconds: float, alive: ScriptedProcess | None = None) -> None:
    """Let time pass as it does, in ticks; a process that is `alive` gives its signs."""
    for tick in range(int(seconds / LIMITS.tick)):
        if alive is not None:
            alive.say(Pulse("", 10**6 + tick, 0.0))
        await later(LIMITS.tick)


def timers() -> list[Any]:
    """Return the streams' timers that are left."""
    scheduled = cast(Any, asyncio.get_running_loop())._scheduled
    return [each for each in scheduled if not each.cancelled() and _of_stream(each)]


def _of_stream(timer: Any) -> bool:
    return isinstance(getattr(timer._callback, "__self__", None), EventStream)


async def refused(stream: EventStream) -> Refused:
    """Return the refusal by which a stream ends, which must be there."""
    async with asyncio.timeout(LATE):
        while not isinstance(event := await stream.next(), Refused):
            pass
    return event


def request(number: int = 0) -> Request:
    return Request(id=number or next(NUMBERS), tokens=[1, 2], max_tokens=5)


def scenario(main: Callable[[ScriptedFleet], Awaitable[None]]) -> str:
    """Run with a fleet that must end without a complaint or a timer; return its log."""
    logs = []

    async def whole() -> None:
        scripted = ScriptedFleet()
        try:
            await main(scripted)
        finally:
            logs.append(await scripted.stop())

    run(whole)
    return logs[0]
