"""What a step of the report says of one thing that it tried."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal[
    "ok", "figure", "left out", "compile error", "wrong", "race", "error", "crash", "hang"
]
FINE: tuple[State, ...] = ("ok", "figure", "left out")


@dataclass(frozen=True, slots=True)
class Outcome:
    """`details` are all that is needed to judge it from afar, as JSON has it."""

    state: State = "ok"
    text: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of an item in a part of a step."""

    step: str
    part: str
    item: str
    state: State
    text: str = ""
    seconds: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_fine(self) -> bool:
        return self.state in FINE


@dataclass(frozen=True, slots=True)
class How:
    """How a report is made: on this machine's GPU, or all of it in the simulator."""

    simulated: bool = False


Item = tuple[str, Callable[[], Outcome]]
Work = Callable[[str, How], Iterator[Item]]  # of a part; yields what is tried, in the same order
