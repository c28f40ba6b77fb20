"""The frequencies of rotary positions, for each kind of scaling a config may ask for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ...kernels.attention.rope import Table, rope_table
from ..config import Rope

Frequencies = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Angles:
    """Radians a token, (pairs,) float32 or (rows, pairs), and what rotated pairs are multiplied by.

    Where rows differ, so does their factor, (rows, 1, 1) float32.
    """

    frequencies: mx.array
    factor: float | mx.array

    @property
    def varying(self) -> list[mx.array]:
        """The arrays, where rows may differ."""
        return [self.frequencies, self.factor] if isinstance(self.factor, mx.array) else []


@dataclass(frozen=True, slots=True, eq=False)
class Rotary:
    """A rope, and its frequencies where they are the same in all sequences."""

    rope: Rope
    fixed: mx.array | None

    @classmethod
    def of(cls, rope: Rope) -> "Rotary":
        return cls(rope, None if rope.varies else mx.array(_angles(rope, 0)))

    def angles(self, max_lens: Sequence[int] | NDArray[np.int32] | None) -> Angles:
        """Return the angles of rows; `max_lens` as in StepRows."""
        if self.fixed is not None:
            return Angles(self.fixed, self.rope.attention_factor)
        assert max_lens is not None, "the rope of this model depends on how long a sequence becomes"
        each, rows = np.unique(np.array(max_lens), return_inverse=True)
        angles = np.stack([_angles(self.rope, int(length)) for length in each])[rows]
        sizes = np.array([_size(self.rope, int(length)) for length in each], np.float32)[rows]
        return Angles(mx.array(angles), mx.array(sizes[:, None, None]))


def table_of(positions: mx.array, angles: Angles) -> Table:
    """Return the table of rows at these positions, (rows,)."""
    return rope_table(positions, angles.frequencies, angles.factor)


def no_rope_table(positions: mx.array) -> Table:
    """Return the table of layers without positions, which rotates no dimension."""
    nothing = mx.zeros((positions.shape[0], 1, 0))
    return Table(nothing, nothing)


@lru_cache(maxsize=1024)
def _angles(rope: Rope, max_len: int) -> NDArray[np.float32]:
    """Return (dims / 2,) radians a token, for a sequence that may come to have `max_len` tokens."""
    if rope.kind == "dynamic":
        rope = replace(rope, theta=_stretched(rope, max_len))
    plain = rope.theta ** (-np.arange(0, rope.dims, 2, dtype=np.float64) / rope.dims)
    if rope.kind == "longrope":
        factors = rope.long_factors if _long(rope, max_len) else rope.short_factors
        plain = plain / np.array(factors)
    scaling = SCALINGS.get(rope.kind)
    return (plain if scaling is None else scaling(plain, rope)).astype(np.float32)


def _size(rope: Rope, max_len: int) -> float:
    """Return what rotated queries and keys are multiplied by."""
    longer = rope.long_attention_factor
    return rope.attention_factor if longer is None or not _long(rope, max_len) else longer


def _long(rope: Rope, max_len: int) -> bool:
    return max_len > rope.original_context


def _stretched(rope: Rope, max_len: int) -> float:
    """Return the theta of dynamic NTK scaling, which begins beyond the context."""
    beyond = rope.factor * max(max_len, rope.context) / rope.context - (rope.factor - 1)
    return float(rope.theta * beyond ** (rope.dims / (rope.dims - 2)))


def _linear(plain: Frequencies, rope: Rope) -> Frequencies:
    return plain / rope.factor


def _llama3(plain: Frequencies, rope: Rope) -> Frequencies:
    """Slow rotations are stretched, fast ones not, those between blended (Llama 3.1's scheme)."""
    rotations = rope.original_context * plain / (2 * math.pi)
    share = np.clip((rotations - rope.low) / (rope.high - rope.low), 0, 1)
    return plain * share + plain / rope.factor * (1 - share)


def _yarn(plain: Frequencies, rope: Rope) -> Frequencies:
    """Blend by a ramp over dimensions instead of rotations (arXiv 2309.00071, section 3.2)."""
    low, high = (_dimension(rotations, rope) for rotations in (rope.fast, rope.slow))
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.dims - 1)
    width = high - low or 0.001  # as transformers does, against a division by 0
    dimensions = np.arange(rope.dims // 2, dtype=np.float64)
    stretched: Frequencies = np.clip((dimensions - low) / width, 0, 1)
    return plain * (1 - stretched) + plain / rope.factor * stretched


def _dimension(rotations: float, rope: Rope) -> float:
    """Return the dimension that rotates so often over the original context."""
    each = math.log(rope.original_context / (rotations * 2 * math.pi))
    return rope.dims * each / (2 * math.log(rope.theta))


def _proportional(plain: Frequencies, rope: Rope) -> Frequencies:
    rotated = np.arange(len(plain)) < rope.rotated_dims // 2
    return np.where(rotated, plain / rope.factor, 0.0)


# How frequencies change by kind of scaling; those of the other kinds stay as they are.
SCALINGS = {"linear": _linear, "llama3": _llama3, "yarn": _yarn, "proportional": _proportional}
