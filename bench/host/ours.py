"""Our engine's host code against a modelled GPU: the steps of a worker, in process."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

from bessemer.bench.host import weightless
from bessemer.bench.host.measure import ROUNDS, HostFigure, measure
from bessemer.bench.models.shapes import ModelShape, kv_values
from bessemer.engine import serving
from bessemer.engine.engine import Engine
from bessemer.engine.request import Request, Sampling, Token
from bessemer.engine.settings import Settings
from bessemer.engine.wire import StepResult, worker_channel
from bessemer.kernels.attention.pages import PAGE
from bessemer.kernels.simulator.timing import TimedRun

FIRST_WORD = 16
MEMORY = 1 << 40
SPARE, LEAST = 4, 64  # pages a sequence has besides, pages of a pool


def engine(path: Path, shape: ModelShape, streams: int, tokens: int) -> Engine:
    """Return an engine of a checkpoint without weights, for so many streams of so many tokens."""
    pages = max(streams * (-(-tokens // PAGE) + SPARE), LEAST)
    pool = pages * PAGE * kv_values(shape.config) * 2
    settings = Settings(max_batch=streams, kv_cache=pool, queue=1024)
    loaded = weightless.load(lambda: serving.load(path, settings, MEMORY))
    weightless.hollow_out(loaded.engine)
    return loaded.engine


class WorkerLoop:
    """What a worker does with each step (engine/worker.py), but for its socket."""

    def __init__(self, engine: Engine, streams: int, prompt: int) -> None:
        self._engine = engine
        self._channel = worker_channel()
        self._streams, self._prompt = streams, prompt

    def begin(self, time: int) -> Callable[[], int]:
        """Read new prompts instead of what went on before, and return the step that comes next.

        Nobody has seen them; they are read up to their first tokens.
        """
        self.cancel(time - 1)
        for number in range(self._streams):
            self._engine.submit(self._request(time * self._streams + number, self._prompt))
        came = self.step()
        while self._reads or came < self._streams:
            came += self.step()
        return self.step

    def cancel(self, time: int) -> None:
        for number in range(self._streams):
            self._engine.cancel(time * self._streams + number)

    def read(self, length: int, number: int, now: Callable[[], float]) -> list[tuple[float, int]]:
        """Read another prompt beside what goes on; return when each step ended, and its tokens."""
        self._engine.submit(self._request(-number, length))
        steps = [(now(), self.step())]
        while self._reads:
            tokens = self.step()
            steps.append((now(), tokens))
        self._engine.cancel(-number)
        return steps

    @property
    def _reads(self) -> bool:
        """Whether prompts wait, or are not read to their ends."""
        scheduler = self._engine.scheduler
        return bool(scheduler.waiting) or any(each.pending > 1 for each in scheduler.running)

    def step(self) -> int:
        """Return the tokens that came of a step."""
        events = self._engine.step()
        self._channel.frame(StepResult(events, self._engine.report()))
        return sum(len(event.tokens) for event in events if isinstance(event, Token))

    def _request(self, number: int, length: int) -> Request:
        return Request(
            id=number,
            tokens=[FIRST_WORD + abs(number) + place % 100 for place in range(length)],
            max_tokens=1 << 20,
            ignore_eos=True,
            sampling=Sampling(temperature=0),
        )


def decode(
    run: TimedRun,
    path: Path,
    shape: ModelShape,
    streams: int,
    context: int,
    steps: int,
    beside: int = 0,
) -> HostFigure:
    """Measure decoding after prompts of that length, then while one of `beside` tokens is read."""
    with run.clock.paused():
        longest = max(context + (ROUNDS + 2) * steps, beside)
        loaded = engine(path, shape, streams + bool(beside), longest)
        loop = WorkerLoop(loaded, streams, context)
    figure = measure(run, "bessemer", streams, context, loop.begin, steps)
    if not beside:
        return figure
    gap, chunk = _gap(run, loop, beside)
    return replace(figure, gap=gap * 1e3, chunk=chunk * 1e3)


def _gap(run: TimedRun, loop: WorkerLoop, length: int) -> tuple[float, float]:
    """Return the longest gap between tokens while a prompt is read, and a chunk's time alone.

    A short one is read before each, so that everything has happened once.
    """
    short = length // 4 + 1
    loop.read(short, 1, run.clock.now)
    beside = loop.read(length, 2, run.clock.now)
    loop.cancel(1)  # what `measure` began last
    loop.step()
    loop.read(short, 3, run.clock.now)
    alone = loop.read(length, 4, run.clock.now)
    gaps = _between([time for time, tokens in beside if tokens])
    return max(gaps), median(_between([time for time, _ in alone]))


def _between(times: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]
