"""A local model as a backend, over a worker that follows a script."""

import asyncio
import math
from collections.abc import Callable, Iterable
from contextlib import aclosing
from itertools import count
from typing import Any

from bessemer.engine.admission import Admission
from bessemer.engine.memory import Plan
from bessemer.engine.request import (
    Event,
    GenerationDefaults,
    Refusal,
    Request,
    StepReport,
)
from bessemer.engine.wire import VERSION, Ready
from bessemer.http.fleet import State
from bessemer.http.local import GenerationBackend, Patience
from bessemer.translate.chat import Chat, GenerateRequest
from bessemer.translate.chat import Event as Said
from tests.translate.test_answer import RENDERER, TEMPLATE, VOCABULARY

Slow = Callable[[list[Request]], Iterable[Event | None]]  # None: nothing for 2 ms


class ScriptedStream:
    def __init__(self, events: Iterable[Event | None]) -> None:
        self.events = iter(events)
        self.closed = False

    async def next(self) -> Event | None:
        await asyncio.sleep(0.002)
        return next(self.events, None)

    def close(self) -> None:
        self.closed = True


class ScriptedWorker:
    """A worker that follows a script, as far as a backend sees it."""

    def __init__(self, script: Any, plan: Plan | None = None) -> None:
        self.script = script
        self.requests: list[Any] = []
        self.refused: list[Refusal] = []
        self.seconds, self.report = 1.5, StepReport(waiting=3)
        self.state, self.stage, self.retry_after, self.hangs = State.READY, "", 3, False
        self.slots = 64
        self.progress, self.why_down = -math.inf, ""
        self.beats: tuple[float, float | None] = (0.0, None)
        self.ready: Ready | None = Ready(
            VERSION, plan or Plan(0, 0, 0, 0, 0, 200), "llama", GenerationDefaults(), VOCABULARY
        )
        self.stream = ScriptedStream([])
        self.admission = Admission(64, 256)
        self.number = count(1).__next__

    async def available(self, patience: float) -> Ready:
        assert self.ready is not None
        return self.ready

    def open(
        self,
        requests: Iterable[Any],
        tick: float,
        first: float | None = None,
        kept: bool = False,
    ) -> ScriptedStream:
        self.beats = tick, first
        self.requests = list(requests)
        self.stream = ScriptedStream(self.script(self.requests))
        return self.stream

    def refuse_all(self, refusal: Refusal) -> None:
        self.refused.append(refusal)


class Here:
    """A template that is rendered in the test's own process."""

    async def render(self, chat: Chat, limit: int) -> str:
        return TEMPLATE.render(chat, limit)


def writer(
    script: Slow, patience: Patience | None = None
) -> tuple[GenerationBackend, ScriptedWorker]:
    worker: Any = ScriptedWorker(script)
    here: Any = Here()
    return GenerationBackend("m", 7, worker, here, RENDERER, 50, patience or Patience()), worker


def events(model: GenerationBackend, request: GenerateRequest) -> list[Said]:
    async def run() -> list[Said]:
        async with aclosing(model.events(request)) as answer:
            return [event async for event in answer]

    return asyncio.run(run())
