"""What of a machine models get: memory by their weights, and cores."""

import os
from collections.abc import Mapping
from pathlib import Path

import psutil
from msgspec import structs

from ..engine.checkpoint.weight_files import CheckpointError, weight_files
from ..engine.embedding.sentence_transformers import DescriptionError, read_modules
from ..engine.memory import size
from ..engine.settings import Settings
from .config import UsageError
from .hub import BUILT_IN
from .machine import group_cores

SHARE = 0.8  # of the memory that is free at start; the rest is the system's and other programs'
GUEST = 200 * 2**20  # bytes beside its weights: the guide plans for half of it


def fits_machine(pools: int, memory: int) -> None:
    """Refuse KV caches that are larger than the machine. Raises UsageError."""
    if pools > memory:
        raise UsageError(
            f"--kv-cache asks for {size(pools)} in all, but this machine has {size(memory)} of "
            "memory; leave it out, and it takes what fits"
        )


def cores() -> int:
    """Count the physical cores of this process: a core's second thread adds only waiting.

    A container's quota counts too.
    """
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return min(physical, allowed, *group_cores())


def guests(models: Mapping[str, Path]) -> set[str]:
    """Return the models beside which others have the machine: the guide, unless it is alone."""
    small = {name for name, path in models.items() if path == BUILT_IN}
    return small if len(small) < len(models) else set()


def shares(models: Mapping[str, Path], memory: int) -> dict[str, int]:
    """Give each model the bytes of its weights, and an equal share of what all weights leave.

    A guest takes only what it needs, where there is so much.
    """
    weights = {name: _weights(path) for name, path in models.items()}
    left = max(memory - sum(weights.values()), 0)
    few = dict.fromkeys(guests(models), min(GUEST, left // max(len(models), 1)))
    rest = (left - sum(few.values())) // max(len(models) - len(few), 1)
    return {name: size + few.get(name, rest) for name, size in weights.items()}


def settings_of(models: Mapping[str, Path], settings: Settings, count: int) -> dict[str, Settings]:
    """Return each model's settings, with an equal share of so many cores.

    A guest, which seldom works, has one of them, and no larger a KV cache than it needs.
    """
    few = guests(models)
    each = with_threads(settings, max(count // max(len(models) - len(few), 1), 1))
    guest = structs.replace(with_threads(settings, 1), kv_cache=0)
    return {name: guest if name in few else each for name in models}


def _weights(path: Path) -> int:
    """Return the bytes of the weights; 0 where they are not sound, as the worker will say."""
    try:
        files = weight_files(read_modules(path).backbone).files
    except (CheckpointError, DescriptionError):
        return 0
    return sum(file.stat().st_size for file in files)


def with_threads(settings: Settings, share: int) -> Settings:
    """Return the settings with a model's share of the cores where the user names no number."""
    return structs.replace(settings, threads=settings.threads or share)
