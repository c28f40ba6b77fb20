"""The timing mode: MLX's calls build, submit and wait as on a Mac, for a GPU of known speed.

    with timed(TimedRun(speed)) as run:
        ...  # any host code that uses mlx.core
    run.clock.now(), run.gpu.totals

A model of time, not a measurement on a GPU: kernels compute nothing, each takes its roofline. Left
out is what MLX spends on a Mac on encoding command buffers, and how long a waiting thread sleeps
on; caches, and clocks that throttle.
"""

import ctypes
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import numpy as np

from .clock import GpuQueue, HostClock, Launch, Speed
from .hollow import FAST, PRODUCTS, SPELLED_OUT, Hollow
from .launch_cost import Sizes, launch_of
from .pending import Pending, read

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
READS = ("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__array__")


class TimedRun:
    """A host and a GPU, each by its own clock; `sizes` is what no shape tells."""

    def __init__(
        self, speed: Speed, scale: float = 1.0, cpu: Callable[[], float] = time.thread_time
    ) -> None:
        self.clock = HostClock(scale, cpu)
        self.gpu = GpuQueue(speed)
        self.hollow = Hollow(self.clock)
        self.sizes = Sizes()
        self.counts = Counter[str]()  # launches by name
        self.times = defaultdict[str, float](float)  # seconds of the GPU by name, without gaps
        self.text = 0  # bytes of kernels' source that MLX would have hashed
        self._under_way: dict[int, tuple[mx.array, float]] = {}

    def submit(self, arrays: Sequence[mx.array], really: Callable[[], object]) -> bool:
        """Evaluate by `really`, and queue the launches; return whether there were any nodes."""
        with self.clock.paused():
            graph = read(arrays)
        began = self.clock.now()
        really()
        ended = self.clock.now()
        with self.clock.paused():
            queued = [launch_of(each, self.hollow.kinds, self.sizes) for each in graph.launches]
            self._count(graph.launches, queued)
            stalled = self.gpu.submit(queued, began, ended)
            self.clock.waited += stalled
        return graph.nodes > 0

    def wait_for(self, arrays: Sequence[mx.array]) -> None:
        """Wait as MLX does: for the evaluation that an array is a result of."""
        ends = (self._under_way.get(id(each)) for each in arrays)
        self.clock.wait(max((end for _, end in filter(None, ends)), default=0.0))

    def evaluate(self, *trees: Any) -> None:
        arrays = list(flat(trees))
        if self.clock.depth:
            EVAL(arrays)
        elif self.submit(arrays, lambda: EVAL(arrays)):
            self.clock.wait(self.gpu.free)
        else:
            self.wait_for(arrays)

    def evaluate_later(self, *trees: Any) -> None:
        arrays = list(flat(trees))
        if self.clock.depth:
            ASYNC_EVAL(arrays)
        elif self.submit(arrays, lambda: ASYNC_EVAL(arrays)):
            with self.clock.paused():
                now = self.clock.now()
                over = [key for key, (_, end) in self._under_way.items() if end <= now]
                for key in over:
                    del self._under_way[key]
                self._under_way.update((id(each), (each, self.gpu.free)) for each in arrays)

    def synchronize(self, *_: Any) -> None:
        SYNCHRONIZE()
        self.clock.wait(self.gpu.free)

    def reading(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return a way of reading an array that evaluates it first, and waits for it."""

        def evaluated(array: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(array, mx.array) and not self.clock.depth:
                self.evaluate(array)
            return real(array, *arguments, **options)

        return evaluated

    def _count(self, pending: Sequence[Pending], queued: Sequence[Launch]) -> None:
        for each, launch in zip(pending, queued, strict=True):
            self.counts[launch.name] += 1
            self.times[launch.name] += self.gpu.speed.seconds(launch)
            if each.mark is not None:
                self.text += self.hollow.kinds[each.mark].text


GPU = mx.Device(mx.DeviceType.gpu)
EVAL, SYNCHRONIZE = mx.eval, mx.synchronize
ASYNC_EVAL: Any = mx.async_eval  # MLX's stubs have no types for it


def flat(tree: Any) -> Iterator[mx.array]:
    """Yield the arrays of lists, tuples and dictionaries, as `mx.eval` takes them."""
    if isinstance(tree, mx.array):
        yield tree
    elif isinstance(tree, dict):
        for each in tree.values():
            yield from flat(each)
    elif isinstance(tree, list | tuple):
        for each in tree:
            yield from flat(each)


def looked_at(array: mx.array, *_: Any, **__: Any) -> mx.array:
    """Stand for `mx.contiguous`, of which MLX tells nothing: taken for what needs no copy."""
    return mx.stop_gradient(array)


def keep_freed_memory() -> None:
    """Let the system's allocator keep what MLX frees, as MLX's own does on a Mac: it costs less."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # of glibc
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


@contextmanager
def timed(run: TimedRun) -> Iterator[TimedRun]:
    """Within the block this thread's MLX runs against the run's GPU.

    What is computed while its clock is paused is really computed, as are reads then.
    """
    replaced = [
        (mx, "default_device", lambda: GPU),
        (mx, "eval", run.evaluate),
        (mx, "async_eval", run.evaluate_later),
        (mx, "synchronize", run.synchronize),
        (mx, "contiguous", looked_at),
        (mx, "compile", run.hollow.compile),
        (mx.fast, "metal_kernel", run.hollow.metal_kernel),
        *((mx, name, run.hollow.standing_for(name, getattr(mx, name))) for name in PRODUCTS),
        (mx.array, "__matmul__", run.hollow.standing_for("matmul", mx.array.__matmul__)),
        *((mx.fast, name, run.hollow.single(name, form)) for name, form in FAST.items()),
        *((mx, name, run.hollow.single(name, form)) for name, form in SPELLED_OUT.items()),
        *((mx.array, name, run.reading(getattr(mx.array, name))) for name in READS),
        *((np, name, run.reading(getattr(np, name))) for name in ("array", "asarray")),
    ]
    keep_freed_memory()
    originals = [(where, name, getattr(where, name)) for where, name, _ in replaced]
    try:
        for where, name, new in replaced:
            setattr(where, name, new)
        yield run
    finally:
        for where, name, old in originals:
            setattr(where, name, old)
