"""The frequencies of rotary positions, for each kind of scaling a config may ask for."""

import math
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ...kernels.attention.rope import Table, rope_table
from ..config import Rope

Frequencies = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Rotary:
    """A rope, and the frequencies of those whose tokens turn alike in all sequences."""

    rope: Rope
    fixed: mx.array | None

    @classmethod
    def of(cls, rope: Rope) -> "Rotary":
        return cls(rope, None if rope.varies else mx.array(_angles(rope, 0)))

    def table(self, positions: mx.array, reaches: mx.array | None) -> Table:
        """Of a step's rows; `reaches` as in Step."""
        if self.fixed is not None:
            return rope_table(positions, self.fixed, self.rope.attention_factor)
        assert reaches is not None, "the rope of this model depends on how long a sequence becomes"
        each, rows = np.unique(np.array(reaches), return_inverse=True)
        angles = np.stack([_angles(self.rope, int(reach)) for reach in each])[rows]
        sizes = np.array([_size(self.rope, int(reach)) for reach in each], np.float32)[rows]
        table, size = rope_table(positions, mx.array(angles), 1.0), mx.array(sizes[:, None, None])
        return Table(table.cos * size, table.sin * size)


def still(positions: mx.array) -> Table:
    """The table of layers without positions."""
    nothing = mx.zeros((positions.shape[0], 1, 0))
    return Table(nothing, nothing)


def _angles(rope: Rope, reach: int) -> NDArray[np.float32]:
    """(dims / 2,) in radians a token, for a sequence that may come to have `reach` tokens."""
    dims = rope.dims
    if rope.kind == "dynamic":
        rope = replace(rope, theta=_stretched(rope, reach))
    plain = rope.theta ** (-np.arange(0, dims, 2, dtype=np.float64) / dims)
    if rope.kind == "longrope":
        factors = rope.long_factors if _long(rope, reach) else rope.short_factors
        plain = plain / np.array(factors)
    return SCALINGS[rope.kind](plain, rope, dims).astype(np.float32)


def _size(rope: Rope, reach: int) -> float:
    """What turned queries and keys are multiplied by."""
    longer = rope.long_attention_factor
    return rope.attention_factor if longer is None or not _long(rope, reach) else longer


def _long(rope: Rope, reach: int) -> bool:
    return reach > rope.original_context


def _stretched(rope: Rope, reach: int) -> float:
    """Dynamic NTK scaling, from the tokens beyond the context on."""
    beyond = rope.factor * max(reach, rope.context) / rope.context - (rope.factor - 1)
    return float(rope.theta * beyond ** (rope.dims / (rope.dims - 2)))


def _default(plain: Frequencies, rope: Rope, head_dim: int) -> Frequencies:
    return plain


def _linear(plain: Frequencies, rope: Rope, head_dim: int) -> Frequencies:
    return plain / rope.factor


def _llama3(plain: Frequencies, rope: Rope, head_dim: int) -> Frequencies:
    """Slow rotations are stretched, fast ones kept, those between blended (Llama 3.1's scheme)."""
    turns = rope.original_context * plain / (2 * math.pi)
    kept = np.clip((turns - rope.low) / (rope.high - rope.low), 0, 1)
    return plain * kept + plain / rope.factor * (1 - kept)


def _yarn(plain: Frequencies, rope: Rope, head_dim: int) -> Frequencies:
    """The same by a ramp over dimensions instead of turns (arXiv 2309.00071, section 3.2)."""
    low, high = (_dimension(turns, rope, head_dim) for turns in (rope.fast, rope.slow))
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    width = high - low or 0.001  # as transformers does, against a division by 0
    dimensions = np.arange(head_dim // 2, dtype=np.float64)
    stretched: Frequencies = np.clip((dimensions - low) / width, 0, 1)
    return plain * (1 - stretched) + plain / rope.factor * stretched


def _dimension(turns: float, rope: Rope, head_dim: int) -> float:
    """The dimension that turns so often over the original context."""
    per_turn = math.log(rope.original_context / (turns * 2 * math.pi))
    return head_dim * per_turn / (2 * math.log(rope.theta))


def _proportional(plain: Frequencies, rope: Rope, head_dim: int) -> Frequencies:
    turning = np.arange(len(plain)) < rope.turning // 2
    return np.where(turning, plain / rope.factor, 0.0)


SCALINGS = {
    "default": _default,
    "linear": _linear,
    "dynamic": _default,
    "longrope": _default,
    "llama3": _llama3,
    "yarn": _yarn,
    "proportional": _proportional,
}
