"""The words of a comparison: its cases, its contestants, and what these measure of a case."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class Unavailable(Exception):
    """Something that a user asked for cannot be had; one sentence that says what to do."""


class CaseFailed(Exception):
    """A contestant cannot do a case; one sentence, shown in its place."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured quantity; `digits` after the point are shown."""

    name: str
    unit: str
    more_is_better: bool = True
    digits: int = 1

    def __str__(self) -> str:
        return f"{self.name}, {self.unit}" if self.unit else self.name


@dataclass(frozen=True, slots=True)
class Case:
    """One line of a table: `tokens` of each of `streams` are measured, after `context` others."""

    benchmark: str
    name: str
    tokens: int = 0
    context: int = 0
    streams: int = 1


@dataclass(frozen=True, slots=True)
class About:
    """The facts about a contestant beside its figures; `bytes` are its weights on disk."""

    label: str
    version: str
    settings: Mapping[str, str]
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Measure:
    """Values by metric name, and remarks to be shown beside them."""

    values: Mapping[str, float]
    notes: tuple[str, ...] = field(default=())


class Contestant(Protocol):
    """Something that runs a model. `start` and `measure` raise CaseFailed."""

    @property
    def label(self) -> str: ...

    def start(self) -> About: ...

    def measure(self, case: Case, seed: int) -> Measure: ...

    def close(self) -> None: ...
