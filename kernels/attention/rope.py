"""Rotary positions: one table a step, shared by all layers, applied to queries and keys."""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..registry import Operation, anything, in_numpy

Factor = float | mx.array  # of all rows; of each, (rows, 1, 1) float32


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A step's cos and sin: (rows, 1, pairs) float32, the attention factor multiplied in."""

    cos: mx.array
    sin: mx.array


@in_numpy(takes=anything)
def _rope_table_numpy(positions: mx.array, frequencies: mx.array, factor: Factor) -> Table:
    angles = np.asarray(positions).astype(np.float32)[:, None] * np.asarray(frequencies)
    angles = angles[:, None, :]
    size = np.asarray(factor, np.float32)
    return Table(mx.array(np.cos(angles) * size), mx.array(np.sin(angles) * size))


def rope_table_reference(positions: mx.array, frequencies: mx.array, factor: Factor) -> Table:
    """Define `rope_table`."""
    angles = (positions.astype(mx.float32)[:, None] * frequencies)[:, None, :]
    return Table(mx.cos(angles) * factor, mx.sin(angles) * factor)


# positions: (rows,); frequencies: float32 radians a token, (pairs,) or (rows, pairs).
rope_table = Operation("rope", rope_table_reference, rope_table_reference, _rope_table_numpy)


def rope(x: mx.array, table: Table, interleaved: bool = False, start: int = 0) -> mx.array:
    """Rotate (rows, heads, head_dim) from dimension `start` on; i pairs with i + pairs.

    Interleaved, it pairs with its neighbour; dimensions that the table has no pairs for stay.
    """
    pairs = table.cos.shape[-1]
    left, middle, right = mx.split(x, [start, start + 2 * pairs], axis=-1)
    if interleaved:
        a, b = middle[..., ::2], middle[..., 1::2]
    else:
        a, b = mx.split(middle, 2, axis=-1)
    cos, sin = table.cos, table.sin
    pair = [a * cos - b * sin, b * cos + a * sin]
    joined = mx.stack(pair, axis=-1).flatten(-2) if interleaved else mx.concatenate(pair, axis=-1)
    parts = [part for part in (left, joined, right) if part.shape[-1]]
    return mx.concatenate(parts, axis=-1).astype(x.dtype)


def rope_reference(
    x: mx.array, table: Table, interleaved: bool = False, start: int = 0
) -> mx.array:
    """Define `rope`: each pair is a complex number, multiplied by its phase."""
    pairs = table.cos.shape[-1]
    first = mx.arange(pairs) * 2 if interleaved else mx.arange(pairs)
    first, stride = first + start, 1 if interleaved else pairs
    wide = x.astype(mx.float32)
    rotated = (wide[..., first] + 1j * wide[..., first + stride]) * (table.cos + 1j * table.sin)
    wide[..., first] = mx.real(rotated)
    wide[..., first + stride] = mx.imag(rotated)
    return wide.astype(x.dtype)
