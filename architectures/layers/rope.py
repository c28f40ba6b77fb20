"""The frequencies of rotary positions, for each kind of scaling a config may ask for."""

import math

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..config import Rope

Frequencies = NDArray[np.float64]


def frequencies(rope: Rope, head_dim: int) -> mx.array:
    """(head_dim / 2,) float32, in radians a token."""
    plain = rope.theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    return mx.array(SCALINGS[rope.kind](plain, rope, head_dim).astype(np.float32))


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


SCALINGS = {"default": _default, "linear": _linear, "llama3": _llama3, "yarn": _yarn}
