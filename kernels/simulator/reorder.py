"""The simulator's dispatches are recorded so that they can run again in another order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from .arrays import viewed

RECORDINGS: ContextVar[tuple[list["Recorded"], ...]] = ContextVar("recordings", default=())


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """One dispatch; its inputs are those of the call, and so known by identity."""

    kernel: Callable[..., list[mx.array]]
    inputs: tuple[Any, ...]
    in_place: frozenset[int]  # inputs that it writes to
    before: Mapping[int, np.ndarray]  # copies of those, as they were
    outputs: tuple[mx.array, ...]
    arguments: Mapping[str, Any]  # all others of the call


@contextmanager
def recording() -> Iterator[list[Recorded]]:
    """Note every dispatch of the simulator that this context makes, in the list it yields."""
    dispatches: list[Recorded] = []
    token = RECORDINGS.set((*RECORDINGS.get(), dispatches))
    try:
        yield dispatches
    finally:
        RECORDINGS.reset(token)


def note(dispatch: Recorded) -> None:
    for recorded in RECORDINGS.get():
        recorded.append(dispatch)


def copies(inputs: Sequence[Any], in_place: frozenset[int]) -> dict[int, np.ndarray]:
    """Copy inputs for a record's `before`; nothing where nobody records."""
    if not RECORDINGS.get():
        return {}
    return {index: np.array(viewed(inputs[index])) for index in in_place}
