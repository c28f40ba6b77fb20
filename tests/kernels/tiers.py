"""Each instruction set this machine can run, and MLX's operations: a test takes one at a time."""

from functools import cache
from types import ModuleType

import mlx.core as mx
import pytest

from bessemer.kernels.cpu.library import TIERS, CompileError, Library, load, probe


@cache
def loaded(tier: str) -> Library:
    found = load(tier)
    found.resize(2)
    return found


def runnable() -> list[str | None]:
    """None stands for MLX's operations; there is nothing else where nothing compiles."""
    if mx.default_device().type != mx.DeviceType.cpu:
        return [None]
    try:
        best = probe()
    except (CompileError, OSError):
        return [None]
    family = [tier for tier in TIERS if (tier == "neon") == (best == "neon")]
    return [*family[family.index(best) :], *(["portable"] if best == "neon" else []), None]


PATHS = runnable()
NATIVE = [path for path in PATHS if path]


def use(monkeypatch: pytest.MonkeyPatch, tier: str | None, *modules: ModuleType) -> None:
    """The modules look their functions up again, in this tier's library, for this test."""
    found = None if tier is None else loaded(tier)
    for module in modules:
        for name, value in vars(module).copy().items():
            if name == "library":
                monkeypatch.setattr(module, name, lambda: found)
            elif hasattr(value, "cache_info"):
                monkeypatch.setattr(module, name, value.__wrapped__)
