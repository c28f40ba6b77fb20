"""Where Metal kernels run now: on this machine's GPU, in the simulator, or nowhere."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import mlx.core as mx

from ..simulator.options import SimulatorOptions as SimulatorOptions


@dataclass(frozen=True, slots=True)
class Gpu:
    """Apple's GPU, by MLX; with `trusted`, kernels are used without a trial."""

    trusted: bool = False


@dataclass(frozen=True, slots=True)
class Simulator:
    """A CPU model of Metal: not Apple's compiler, not a GPU."""

    options: SimulatorOptions = field(default_factory=SimulatorOptions)


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """No kernel runs: `note` is told of each launch and its inputs, and its results are zeros."""

    note: Callable[[Any, Sequence[mx.array]], None]
    trusted: bool = True


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
    return Gpu() if on_gpu and mx.metal.is_available() else None
