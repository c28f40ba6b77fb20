"""Our engine's host code against a modelled GPU: the steps of a worker, in process."""

from collections.abc import Callable
from pathlib import Path

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
        """Read prompts that nobody has seen, instead of what went on before; return the step."""
        for number in range(self._streams):
            self._engine.cancel((time - 1) * self._streams + number)
            self._engine.submit(self._request(time * self._streams + number))
        scheduler = self._engine.scheduler
        self.step()
        while scheduler.waiting or any(each.pending > 1 for each in scheduler.running):
            self.step()
        return self.step

    def step(self) -> int:
        """Return the tokens that came of a step."""
        events = self._engine.step()
        self._channel.frame(StepResult(events, self._engine.report()))
        return sum(len(event.tokens) for event in events if isinstance(event, Token))

    def _request(self, number: int) -> Request:
        return Request(
            id=number,
            tokens=[FIRST_WORD + number + place % 100 for place in range(self._prompt)],
            max_tokens=1 << 20,
            ignore_eos=True,
            sampling=Sampling(temperature=0),
        )


def decode(
    run: TimedRun, path: Path, shape: ModelShape, streams: int, context: int, steps: int
) -> HostFigure:
    """Measure decoding after prompts of that length."""
    with run.clock.paused():
        loaded = engine(path, shape, streams, context + (ROUNDS + 2) * steps)
        loop = WorkerLoop(loaded, streams, context)
    return measure(run, "bessemer", streams, context, loop.begin, steps)
