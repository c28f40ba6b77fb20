"""Which rows of a step belong to which sequence, for layers that keep a state per sequence."""

from dataclasses import dataclass

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
