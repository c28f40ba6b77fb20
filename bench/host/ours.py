"""Our engine's host code against a modelled GPU: the steps of a worker, in process."""

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


def engine(path: Path, shape: ModelShape, streams: int, tokens: int, chunk: int = 512) -> Engine:
    """Return an engine of a checkpoint without weights, for so many streams of so many tokens."""
    pages = max(streams * (-(-tokens // PAGE) + SPARE), LEAST)
    settings = Settings(
        max_batch=streams,
        kv_cache=pages * PAGE * kv_values(shape.config) * 2,
        queue=1024,
        chunk=chunk,
    )
    loaded = weightless.load(lambda: serving.load(path, settings, MEMORY))
    weightless.hollow_out(loaded.engine)
    return loaded.engine


def submit(engine: Engine, streams: int, prompt: int) -> None:
    """Give the engine prompts, which stay the same length apart from one another."""
    for number in range(streams):
        request = Request(
            id=number + 1,
            tokens=[FIRST_WORD + (number + place) % 100 for place in range(prompt)],
            max_tokens=1 << 20,
            ignore_eos=True,
            sampling=Sampling(temperature=0),
        )
        engine.submit(request)


class WorkerLoop:
    """What a worker does with each step (engine/worker.py), but for its socket."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._channel = worker_channel()

    def step(self) -> int:
        """Return the tokens that came of a step."""
        events = self._engine.step()
        self._channel.frame(StepResult(events, self._engine.report()))
        return sum(len(event.tokens) for event in events if isinstance(event, Token))


def decode(
    run: TimedRun, path: Path, shape: ModelShape, streams: int, context: int, steps: int
) -> HostFigure:
    """Measure decoding after prompts of that length, which are read under the same clock."""
    longest = context + (ROUNDS + 2) * steps
    with run.clock.paused():
        loaded = engine(path, shape, streams, longest)
        submit(loaded, streams, context)
    loop = WorkerLoop(loaded)
    while loaded.scheduler.waiting or any(s.pending > 1 for s in loaded.scheduler.running):
        loop.step()
    run.sizes.context = context + (ROUNDS + 2) * steps // 2
    return measure(run, "bessemer", streams, context, loop.step, steps, ROUNDS)
