"""Where Metal kernels run now: on this machine's GPU, in the simulator, or nowhere."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

import mlx.core as mx

from ..simulator.options import SimulatorOptions as SimulatorOptions

# A GPU's cores by the last word of its chip's name; MLX does not tell them. The largest of each.
SIZES = MappingProxyType({"Pro": 20, "Max": 40, "Ultra": 80})
BASE, CORES = 10, 40  # of a chip without such a word; of an unknown one


@dataclass(frozen=True, slots=True)
class Gpu:
    """Apple's GPU, by MLX; with `trusted`, kernels are used without a trial."""

    trusted: bool = False
    cores: int = CORES


@dataclass(frozen=True, slots=True)
class Simulator:
    """A CPU model of Metal: not Apple's compiler, not a GPU."""

    options: SimulatorOptions = field(default_factory=SimulatorOptions)
    cores: int = CORES


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """No kernel runs: `note` is told of each launch and its inputs, and its results are zeros."""

    note: Callable[[Any, Sequence[mx.array]], None]
    trusted: bool = True
    cores: int = CORES


@dataclass(frozen=True, slots=True)
class Nowhere:
    """No Metal kernels: MLX's own operations, though there may be a GPU."""


Device = Gpu | Simulator | Listing

used: ContextVar[Device | Nowhere | None] = ContextVar("device", default=None)


def device() -> Device | None:
    """Return what custom Metal kernels run on in this context; None where there is nothing."""
    where = used.get() or gpu()
    return None if isinstance(where, Nowhere) else where


def use(device: Device | Nowhere) -> None:
    """Run this context's kernels on this device from now on."""
    used.set(device)


@contextmanager
def using(device: Device | Nowhere) -> Iterator[None]:
    """Run the block's kernels on this device."""
    token = used.set(device)
    try:
        yield
    finally:
        used.reset(token)


@cache
def gpu() -> Gpu | None:
    """Return this machine's GPU, where MLX computes on it."""
    on_gpu = mx.default_device().type == mx.DeviceType.gpu
    if not on_gpu or not mx.metal.is_available():
        return None
    return Gpu(cores=cores_of(str(mx.device_info()["device_name"])))


def cores_of(name: str) -> int:
    """Return about how many cores a chip of this name has: "Apple M4 Max"."""
    return SIZES.get(name.split()[-1], BASE if name.startswith("Apple M") else CORES)
