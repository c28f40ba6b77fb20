"""Each instruction set this machine can run, and MLX's operations: a test takes one at a time."""

import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import cycle
from typing import ParamSpec, TypeVar

import mlx.core as mx
import pytest

from bessemer.kernels.cpu.library import CompileError, Library, load, tier, tiers
from bessemer.kernels.registry import Operation, function

P = ParamSpec("P")
T = TypeVar("T")


@cache
def loaded(tier: str) -> Library:
    library = load(tier)
    library.resize(2)
    return library


def runnable() -> list[str | None]:
    """The tier in use and those below it; None stands for MLX's operations.

    There is nothing else where nothing compiles.
    """
    if mx.default_device().type != mx.DeviceType.cpu:
        return [None]
    try:
        available = tiers()
    except (CompileError, OSError):
        return [None]
    return [*available[available.index(tier()) :], None]


PATHS = runnable()
NATIVE = [path for path in PATHS if path]
LOWER = NATIVE[1:]


def in_turns(cases: Sequence[T]) -> list[tuple[str, T]]:
    """Each case with one of the tiers below the one in use, the next case with the next."""
    return list(zip(cycle(LOWER), cases, strict=False))


def in_library(operation: Operation[P, T], library: Library) -> Callable[P, T]:
    """The operation's C form, of this library."""
    assert operation.c is not None
    return partial(operation.c.form, function(library, operation.c))


def use(monkeypatch: pytest.MonkeyPatch, tier: str | None) -> None:
    """All operations run in this tier's library for this test, or in MLX's operations."""
    library = None if tier is None else loaded(tier)
    for name in [name for name in sys.modules if name.startswith("bessemer.kernels.")]:
        for attribute, value in vars(sys.modules[name]).copy().items():
            if attribute == "library" and callable(value):
                monkeypatch.setattr(sys.modules[name], attribute, lambda: library)
