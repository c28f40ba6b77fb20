"""What a loop of steps takes against a modelled GPU, and where the host's time goes.

mlx_lm's interpreter imports this too: only mlx and numpy are there.
"""

import signal
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from bessemer.kernels.simulator import timing
from bessemer.kernels.simulator.clock import HostClock

SIMULATOR = Path(timing.__file__).parent.name
ROUNDS = 5
INTERVAL = 0.001  # seconds of the processor between samples of the stack
MLX = "mlx.core"

Begin = Callable[[int], Callable[[], int]]


@dataclass(frozen=True, slots=True)
class HostFigure:
    """A loop's quickest round, as what else a machine does only adds to a host's time.

    Times are milliseconds a step, by the model's clocks.
    """

    who: str
    streams: int
    context: int
    prompt: float  # milliseconds until all prompts are read, and the first tokens drawn
    tokens_per_second: float
    busy: float  # the share of time that the GPU has work
    step: float
    host: float  # that the host computes, at the scale of the run
    gpu: float
    launches: float
    buffers: float
    megabytes: float  # that the launches move
    text: float  # KB of kernels' source that MLX would hash
    kernels: list[tuple[str, float, float]]  # name, launches a step, microseconds a step
    stacks: list[tuple[list[str], float]]  # from the outermost function, milliseconds a step
    # While another prompt is read, if one is: the longest time between two tokens of a stream, and
    # what a chunk of that prompt takes alone.
    gap: float = 0.0
    chunk: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Round:
    """A few steps: seconds by the clocks, and what the GPU did."""

    seconds: float
    host: float
    tokens: int
    busy: float
    launches: int
    buffers: int
    moved: int
    text: int


class Stacks:
    """The host's seconds by its stack of functions, from samples.

    A sample gets what the thread has computed since the last one, whatever made the signal late.
    """

    def __init__(self, clock: HostClock) -> None:
        self.seconds = defaultdict[tuple[str, ...], float](float)
        self._clock = clock
        self._last = clock.computed()

    def note(self, frame: FrameType | None) -> None:
        if self._clock.depth:
            return  # the model's own work
        with self._clock.paused():
            seconds, self._last = self._clock.computed() - self._last, self._clock.computed()
            if seconds > 0 and frame is not None:
                self.seconds[names(frame)] += seconds

    @contextmanager
    def sampled(self) -> Iterator[None]:
        """Sample within the block, which runs on the main thread."""
        before = signal.signal(signal.SIGPROF, lambda _, frame: self.note(frame))
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)


def names(frame: FrameType | None) -> tuple[str, ...]:
    """Return a stack's functions, outermost first, up to MLX's, which the simulator stands for."""
    stack: list[str] = []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.parent.name == SIMULATOR:
            stack = [MLX]
        else:
            stack.append(f"{short(path)} {frame.f_code.co_qualname}")
        frame = frame.f_back
    return tuple(reversed(stack))


def short(path: Path) -> str:
    """Return a source's folder and name."""
    return "/".join(path.with_suffix("").parts[-2:])


def measure(
    run: timing.TimedRun,
    who: str,
    streams: int,
    context: int,
    begin: Begin,
    steps: int,
    rounds: int = ROUNDS,
) -> HostFigure:
    """Measure how long prompts take, and rounds of steps; what happens once has happened by then.

    `begin` reads prompts, which its argument makes new ones, and returns the loop's step: each
    call of that returns how many tokens came of it.
    """
    begin(0)
    began = run.clock.now()
    step = begin(1)
    prompt = run.clock.now() - began
    run.sizes.context = context + steps * (rounds + 1) // 2
    for _ in range(steps // 4 + 2):
        step()
    run.counts.clear()
    run.times.clear()
    stacks = Stacks(run.clock)
    with stacks.sampled():
        measured = [_round(run, step, steps) for _ in range(rounds)]
    best = min(measured, key=lambda each: each.seconds / each.tokens)
    total = steps * rounds
    each_kernel = [
        (name, count / total, run.times[name] / total * 1e6)
        for name, count in run.counts.most_common()
    ]
    scale = run.clock.scale * 1e3 / total
    each_stack = [(list(stack), part * scale) for stack, part in stacks.seconds.items()]
    return HostFigure(
        who,
        streams,
        context,
        prompt * 1e3,
        best.tokens / best.seconds,
        best.busy / best.seconds,
        best.seconds / steps * 1e3,
        best.host / steps * 1e3,
        best.busy / steps * 1e3,
        best.launches / steps,
        best.buffers / steps,
        best.moved / steps / 1e6,
        best.text / steps / 1e3,
        each_kernel,
        each_stack,
    )


def _round(run: timing.TimedRun, step: Callable[[], int], steps: int) -> Round:
    began, computed, text = run.clock.now(), run.clock.computed(), run.text
    before = replace(run.gpu.totals)
    tokens = sum(step() for _ in range(steps))
    after = run.gpu.totals
    return Round(
        run.clock.now() - began,
        (run.clock.computed() - computed) * run.clock.scale,
        tokens,
        after.busy - before.busy,
        after.launches - before.launches,
        after.buffers - before.buffers,
        after.moved - before.moved,
        run.text - text,
    )
