"""A step's rows by sequence, and the states that layers keep for sequences."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

FRESH = 3  # the column of Runs.table


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of a step's rows: starts[i] to starts[i + 1] are the next tokens of sequence i."""

    starts: np.ndarray  # (sequences + 1,) int32, from 0 to the number of rows
    state_slots: np.ndarray  # (sequences,) int32, where each has its state; no two alike
    fresh: np.ndarray  # (sequences,) int32, 1: the state begins at 0, whatever the slot holds

    @classmethod
    def of(cls, lengths: list[int], state_slots: list[int], fresh: list[bool]) -> "Runs":
        assert len(lengths) == len(state_slots) == len(fresh) == len(set(state_slots))
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return cls(starts, np.array(state_slots, np.int32), np.array(fresh, np.int32))

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The arrays in the order of the C kernels."""
        return self.starts, self.state_slots, self.fresh

    @property
    def longest(self) -> int:
        return int(np.diff(self.starts).max(initial=0))

    def each(self, state: mx.array) -> Iterator[tuple[mx.array, slice]]:
        """Yield each sequence's state before the step, out of all (slots, ...), and its rows."""
        for i, fresh in enumerate(self.fresh.tolist()):
            before = state[int(self.state_slots[i])]
            rows = slice(int(self.starts[i]), int(self.starts[i + 1]))
            yield mx.zeros_like(before) if fresh else before, rows

    def single(self) -> "SingleRuns":
        """Return the same runs, of one row each, as arrays."""
        assert self.longest == 1
        return SingleRuns.from_arrays(self.table(), mx.array(self.state_slots))

    def table(self) -> mx.array:
        """Return (sequences, 4) int32, two rows at least: first row, end, state slot, fresh."""
        parts = (self.starts[:-1], self.starts[1:], self.state_slots, self.fresh)
        table = np.stack(parts, axis=1).astype(np.int32)
        return mx.array(table if len(table) > 1 else np.repeat(table, 2, axis=0))

    def updated(self, state: mx.array, new: mx.array | list[mx.array]) -> mx.array:
        """Replace these sequences' states, (sequences, ...) or a list, among all (slots, ...).

        Happens in place where only the result refers to the old ones when it is evaluated.
        """
        if isinstance(new, list):
            if not new:
                return mx.array(state)
            new = mx.stack(new).astype(state.dtype)
        if np.array_equal(self.state_slots, np.arange(len(state))):
            return new
        state = mx.array(state)
        state[mx.array(self.state_slots.astype(np.int32))] = new
        return state


@dataclass(frozen=True, slots=True, eq=False)
class SingleRuns(Runs):
    """Runs of one row each of which only arrays are known: the numbers come when it is evaluated.

    What is inherited says no more than how many there are; C's kernels cannot take it.
    """

    sequences: mx.array  # as Runs.table returns it
    slots: mx.array  # (sequences,) int32, the state slots

    @classmethod
    def from_arrays(cls, sequences: mx.array, slots: mx.array) -> "SingleRuns":
        count = slots.shape[0]
        unknown = np.full(count, -1, np.int32)
        return cls(np.arange(count + 1, dtype=np.int32), unknown, unknown, sequences, slots)

    def each(self, state: mx.array) -> Iterator[tuple[mx.array, slice]]:
        """Yield each sequence's state before the step, and its rows, as `Runs.each` does."""
        for i in range(len(self.state_slots)):
            before = state[self.slots[i]]
            yield mx.where(self.sequences[i, FRESH] != 0, 0, before), slice(i, i + 1)

    def table(self) -> mx.array:
        """Return (sequences, 4) int32 as `Runs.table` does."""
        return self.sequences

    def updated(self, state: mx.array, new: mx.array | list[mx.array]) -> mx.array:
        """Replace these sequences' states as `Runs.updated` does."""
        state = mx.array(state)
        state[self.slots] = mx.stack(new).astype(state.dtype) if isinstance(new, list) else new
        return state


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """One layer's states, (slots, ...) float32 each: a cache handle like `pages.Pages`."""

    arrays: tuple[mx.array, ...]

    def with_arrays(self, arrays: Iterator[mx.array]) -> "States":
        """Return a handle of as many arrays, the next of these."""
        return States(tuple(next(arrays) for _ in self.arrays))

    def copied(self, source: Sequence[int], into: Sequence[int]) -> "States":
        """Copy the states of slots `source` into slots `into`; in place as in `Runs.updated`."""
        taken = [array[mx.array(list(source), mx.int32)] for array in self.arrays]
        mx.eval(taken)  # else the graph would read the old arrays while it writes, to copies
        moved = [mx.array(array) for array in self.arrays]
        for array, rows in zip(moved, taken, strict=True):
            array[mx.array(list(into), mx.int32)] = rows
        return States(tuple(moved))
