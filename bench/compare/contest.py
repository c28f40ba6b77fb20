"""What is compared and how: cases, contestants, and what a contestant measures of a case."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class Unavailable(Exception):
    """Something that a user asked for cannot be had; one sentence that says what to do."""


class Failed(Exception):
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

    subject: str
    name: str
    tokens: int = 0
    context: int = 0
    streams: int = 1


@dataclass(frozen=True, slots=True)
class About:
    """What a reported figure must say of a contestant; `bytes` are its weights on disk."""

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
    """Something that runs a model. `start` and `measure` raise Failed."""

    @property
    def label(self) -> str: ...

    def start(self) -> About: ...

    def measure(self, case: Case, seed: int) -> Measure: ...

    def close(self) -> None: ...
