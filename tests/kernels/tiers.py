"""Each instruction set this machine can run, and MLX's operations: a test takes one at a time."""

import sys
from collections.abc import Sequence
from functools import cache
from itertools import cycle
from types import ModuleType
from typing import TypeVar

import mlx.core as mx
import pytest

from bessemer.kernels.cpu.library import CompileError, Library, load, tier, tiers

T = TypeVar("T")


@cache
def loaded(tier: str) -> Library:
    found = load(tier)
    found.resize(2)
    return found


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


def use_everywhere(monkeypatch: pytest.MonkeyPatch, tier: str) -> None:
    """As `use`, in all modules of kernels that are loaded."""
    names = [name for name in sys.modules if name.startswith("bessemer.kernels.")]
    use(monkeypatch, tier, *(sys.modules[name] for name in names))


def use(monkeypatch: pytest.MonkeyPatch, tier: str | None, *modules: ModuleType) -> None:
    """The modules look their functions up again, in this tier's library, for this test."""
    found = None if tier is None else loaded(tier)
    for module in modules:
        for name, value in vars(module).copy().items():
            if name == "library" and callable(value):
                monkeypatch.setattr(module, name, lambda: found)
            elif hasattr(value, "cache_info"):
                monkeypatch.setattr(module, name, value.__wrapped__)
