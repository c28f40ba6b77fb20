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
from .machine import group_cores

SHARE = 0.8  # of the memory that is free at start; the rest is the system's and other programs'


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


def shares(models: Mapping[str, Path], memory: int) -> dict[str, int]:
    """Give each model the bytes of its weights, and an equal share of what all weights leave."""
    weights = {name: _weights(path) for name, path in models.items()}
    left = max(memory - sum(weights.values()), 0)
    return {name: size + left // len(models) for name, size in weights.items()}


def _weights(path: Path) -> int:
    """Return the bytes of the weights; 0 where they are not sound, as the worker will say."""
    try:
        files = weight_files(read_modules(path).backbone).files
    except (CheckpointError, DescriptionError):
        return 0
    return sum(file.stat().st_size for file in files)


def with_threads(settings: Settings, models: int) -> Settings:
    """Return the settings with a model's share of the cores where the user names no number."""
    return structs.replace(settings, threads=settings.threads or max(cores() // models, 1))
