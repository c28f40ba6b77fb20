"""Which rows of a step belong to which sequence, for layers that keep a state per sequence."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np


@dataclass(frozen=True, slots=True)
class Runs:
    """Rows starts[i] to starts[i + 1] of the step are the next tokens of sequence i."""

    starts: np.ndarray  # (sequences + 1,) int32, from 0 to the number of rows
    slots: np.ndarray  # (sequences,) int32, whose state; no two alike
    fresh: np.ndarray  # (sequences,) int32, 1: the state begins at 0, whatever the slot holds

    @classmethod
    def of(cls, lengths: list[int], slots: list[int], fresh: list[bool]) -> "Runs":
        assert len(lengths) == len(slots) == len(fresh) == len(set(slots))
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return cls(starts, np.array(slots, np.int32), np.array(fresh, np.int32))

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """In the order of the C kernels."""
        return self.starts, self.slots, self.fresh

    @property
    def longest(self) -> int:
        return int(np.diff(self.starts).max(initial=0))

    def each(self, state: mx.array) -> Iterator[tuple[mx.array, slice]]:
        """A sequence's state before the step, of (slots, ...) all, and its rows; one by one."""
        for i, fresh in enumerate(self.fresh.tolist()):
            before = state[int(self.slots[i])]
            rows = slice(int(self.starts[i]), int(self.starts[i + 1]))
            yield mx.zeros_like(before) if fresh else before, rows

    def table(self) -> mx.array:
        """(sequences, 4) int32: first row, the row after the last, slot, fresh; two at least."""
        parts = (self.starts[:-1], self.starts[1:], self.slots, self.fresh)
        table = np.stack(parts, axis=1).astype(np.int32)
        return mx.array(table if len(table) > 1 else np.repeat(table, 2, axis=0))

    def stored(self, state: mx.array, new: mx.array | list[mx.array]) -> mx.array:
        """(slots, ...) states with those of these sequences replaced: (sequences, ...), or a list.

        In place as soon as nobody but the result refers to the old ones when it is evaluated.
        """
        if isinstance(new, list):
            if not new:
                return mx.array(state)
            new = mx.stack(new).astype(state.dtype)
        if np.array_equal(self.slots, np.arange(len(state))):
            return new
        state = mx.array(state)
        state[mx.array(self.slots.astype(np.int32))] = new
        return state


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """One layer's states, (slots, ...) float32 each: a cache handle, as `pages.Pages` is."""

    arrays: tuple[mx.array, ...]

    def copied(self, source: Sequence[int], into: Sequence[int]) -> "States":
        """With slots `into` holding what `source` do; in place, as in `Runs.stored`."""
        taken = [array[mx.array(list(source), mx.int32)] for array in self.arrays]
        mx.eval(taken)  # else the graph would read the old arrays while it writes, to copies
        moved = [mx.array(array) for array in self.arrays]
        for array, rows in zip(moved, taken, strict=True):
            array[mx.array(list(into), mx.int32)] = rows
        return States(tuple(moved))
