"""Two clocks: the host's, which is the processor time of its thread, and a modelled GPU's.

A model of time, not a measurement on a GPU. Nothing here sleeps: the host's clock advances by what
its thread computes, and jumps where it would wait; the GPU's advances by launches. So a busy
machine delays a run without changing what it says.
"""

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

PAUSES = 2000  # empty ones, by which a pause's own cost is known


@dataclass(frozen=True, slots=True)
class Speed:
    """What a launch takes of a GPU: the chip's figures, and parameters from public measurements.

    bandwidth: bytes a second that reading reaches; flops a second; both of a busy GPU.
    """

    bandwidth: float
    flops: float
    cores: int
    # A core moves 64 bytes a clock (github.com/philipturner/metal-benchmarks), at 1.5 GHz: a launch
    # of few threadgroups has as many cores at most.
    core: float = 96e9
    # 3,200 chained kernels take 2.4 us each on an M3 Ultra: mlx issue 4521.
    gap: float = 2.4e-6
    # A command buffer after another, the same issue.
    boundary: float = 20e-6
    # MLX commits one after so many launches, or inputs of so many elements, on Max and Ultra, and
    # the host waits while more than `queue` are under way (metal/device.cpp, transforms.cpp).
    launches: int = 50
    elements: int = 50 << 20
    queue: int = 10

    def seconds(self, launch: "Launch") -> float:
        """Return a launch's roofline at its share of the cores, without launching itself."""
        cores = min(self.cores, launch.threadgroups)
        bandwidth = min(self.bandwidth, cores * self.core)
        return max(launch.moved / bandwidth, launch.flops / (self.flops * cores / self.cores))


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel in the queue: what it moves and computes, and by how many threadgroups.

    waits: it needs a result of those since the last that waited, so that a barrier comes before it.
    binds: its arrays, by whatever tells them apart, and their elements.
    """

    name: str
    moved: int
    flops: float = 0.0
    threadgroups: int = 1 << 20
    waits: bool = True
    binds: tuple[tuple[Hashable, int], ...] = ()


class HostClock:
    """The time of the calling thread: its processor time times `scale`, and its waits."""

    def __init__(self, scale: float = 1.0, cpu: Callable[[], float] = time.thread_time) -> None:
        self.scale = scale
        self.waited = 0.0
        self.depth = 0  # of pauses, of which each holds the next
        self._cpu = cpu
        self._left_out = cpu()
        self._pause = 0.0  # what a pause costs outside of itself
        self._pause = self._cost_of_a_pause()

    def now(self) -> float:
        return self.scale * self.computed() + self.waited

    def computed(self) -> float:
        """Return the thread's seconds so far, at this machine's speed, without waits and pauses."""
        return self._cpu() - self._left_out

    def charge(self, seconds: float) -> None:
        """Count what the thread would have computed besides, or take off what it would not have."""
        self._left_out -= seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what the block computes: it is the model's own work."""
        began = self._cpu()
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1
            if not self.depth:
                self._left_out += self._cpu() - began + self._pause

    def wait(self, until: float) -> float:
        """Wait, if it is not that late yet; return the seconds waited."""
        seconds = max(0.0, until - self.now())
        self.waited += seconds
        return seconds

    def _cost_of_a_pause(self) -> float:
        began = self.computed()
        for _ in range(PAUSES):
            with self.paused():
                pass
        return max(0.0, self.computed() - began) / PAUSES


@dataclass(slots=True)
class Totals:
    """What a GPU did: seconds not without work, gaps and boundaries included, and counts."""

    busy: float = 0.0
    launches: int = 0
    buffers: int = 0
    moved: int = 0
    flops: float = 0.0
    stalled: float = 0.0  # of the host, as the queue was full


class GpuQueue:
    """One queue that works through command buffers in order, each begun when it is committed."""

    def __init__(self, speed: Speed) -> None:
        self.speed = speed
        self.free = 0.0  # when the last command buffer so far is done
        self.totals = Totals()
        self._ends: deque[float] = deque()  # of the command buffers that may be under way

    def submit(self, launches: Sequence[Launch], began: float, ended: float) -> float:
        """Queue what the host encoded between these times; return how long the queue held it up.

        A command buffer is committed when it is full, and the last one at the end.
        """
        stalled, done = 0.0, 0
        for buffer in self._buffers(launches):
            done += len(buffer)
            committed = began + (ended - began) * done / len(launches) + stalled
            stalled += self._commit(buffer, committed)
        self.totals.stalled += stalled
        return stalled

    def _buffers(self, launches: Sequence[Launch]) -> Iterator[list[Launch]]:
        buffer: list[Launch] = []
        bound: dict[Hashable, int] = {}
        for launch in launches:
            buffer.append(launch)
            bound.update(launch.binds)
            full = len(buffer) > self.speed.launches
            if full or sum(bound.values()) > self.speed.elements:
                yield buffer
                buffer, bound = [], {}
        if buffer:
            yield buffer

    def _commit(self, buffer: Sequence[Launch], at: float) -> float:
        """Queue a command buffer; return how long the host waits for the queue to get shorter."""
        behind = self.free > at
        seconds = self.seconds(buffer) + (self.speed.boundary if behind else 0.0)
        self.free = max(self.free, at) + seconds
        self._count(buffer, seconds)
        while self._ends and self._ends[0] <= at:
            self._ends.popleft()
        self._ends.append(self.free)
        return self._ends.popleft() - at if len(self._ends) > self.speed.queue else 0.0

    def seconds(self, launches: Sequence[Launch]) -> float:
        """Return how long the launches take, those that need not wait beside one another."""
        groups: list[list[Launch]] = []
        for launch in launches:
            if launch.waits or not groups:
                groups.append([])
            groups[-1].append(launch)
        return sum(self.speed.gap + self._together(group) for group in groups)

    def _together(self, group: Sequence[Launch]) -> float:
        each = map(self.speed.seconds, group)
        moved, flops = sum(one.moved for one in group), sum(one.flops for one in group)
        return max(moved / self.speed.bandwidth, flops / self.speed.flops, *each)

    def _count(self, buffer: Sequence[Launch], seconds: float) -> None:
        totals = self.totals
        totals.busy += seconds
        totals.launches += len(buffer)
        totals.buffers += 1
        totals.moved += sum(launch.moved for launch in buffer)
        totals.flops += sum(launch.flops for launch in buffer)
