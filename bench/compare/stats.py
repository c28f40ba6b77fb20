"""Medians, spreads and bootstrap intervals of what rounds measured, and the order of a round."""

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

RESAMPLES = 4000
CONFIDENCE = 0.95

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Summary:
    """The median of samples, its bootstrap interval, and the extremes."""

    median: float
    low: float
    high: float
    minimum: float
    maximum: float


def rotated(items: Sequence[T], round_: int) -> list[T]:
    """Return the items in the order of one round: each is first equally often."""
    start = round_ % len(items) if items else 0
    return [*items[start:], *items[:start]]


def summary(samples: Sequence[float], seed: int = 0) -> Summary:
    low, high = bootstrap(samples, statistics.median, seed)
    return Summary(statistics.median(samples), low, high, min(samples), max(samples))


def bootstrap(
    samples: Sequence[float], statistic: Callable[[Sequence[float]], float], seed: int = 0
) -> tuple[float, float]:
    """Return the percentile interval of a statistic over resamples, which follow from the seed."""
    if len(samples) < 2:
        return samples[0], samples[0]
    resampler = random.Random(seed)
    values = sorted(statistic(resampler.choices(samples, k=len(samples))) for _ in range(RESAMPLES))
    tail = (1 - CONFIDENCE) / 2
    return quantile(values, tail), quantile(values, 1 - tail)


def quantile(samples: Sequence[float], share: float) -> float:
    """Interpolate linearly between neighbours, as numpy does by default."""
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def paired(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float]:
    """Return the ratios of rounds in which both have a figure."""
    pairs = zip(ours, theirs, strict=True)
    return [a / b for a, b in pairs if a is not None and b is not None and b > 0]
