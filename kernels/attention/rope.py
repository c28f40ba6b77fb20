"""Rotary positions: one table a step, shared by all layers, applied to queries and keys."""

from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..metal.library import SMALLEST, kernel, padded, scalar
from ..registry import InMetal, Key, Operation, anything, bucket, in_numpy

SIMD, THREADS = 32, 256

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
rope_table = Operation("rope_table", rope_table_reference, rope_table_reference, _rope_table_numpy)


def rope_mlx(x: mx.array, table: Table, interleaved: bool = False, start: int = 0) -> mx.array:
    """Run `rope` by MLX's own operations."""
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


def rope_metal(x: mx.array, table: Table, interleaved: bool = False, start: int = 0) -> mx.array:
    """Run `rope` by one kernel."""
    (rows, heads, width), pairs = x.shape, table.cos.shape[-1]
    threads = -(-(width - pairs) // SIMD) * SIMD
    return kernel("rope")(
        [
            x,
            padded(table.cos),
            padded(table.sin),
            *(scalar(n, mx.int32) for n in (width, pairs, start)),
        ],
        [(x.shape, x.dtype)],
        (threads, heads, rows),
        (min(threads, THREADS), 1, 1),
        T=x.dtype,
        INTERLEAVED=interleaved,
    )[0]


def _covers(x: mx.array, table: Table, *_: object) -> bool:
    """Return whether there is something to rotate, by positions of each row."""
    return x.size >= SMALLEST and table.cos.shape[0] == x.shape[0] and table.cos.shape[-1] > 0


def _key(x: mx.array, table: Table, interleaved: bool = False, start: int = 0) -> Key:
    shape = bucket(x.shape[0]), *x.shape[1:], table.cos.shape[-1]
    return (*shape, start, interleaved, x.dtype)


def _edges(dtype: mx.Dtype) -> Iterator[tuple[mx.array, Table, bool, int]]:
    """Yield heads that rotate as a whole, in their middle, and not at their ends."""
    for rows, width, pairs, start in ((3, 64, 32, 0), (9, 40, 8, 16), (2, 24, 4, 0)):
        table = rope_table(mx.arange(rows), mx.random.uniform(shape=(pairs,)), 1.0)
        for interleaved in (False, True):
            yield mx.random.normal((rows, 3, width)).astype(dtype), table, interleaved, start


# Rotates (rows, heads, head_dim) from dimension `start` on; i pairs with i + pairs. Interleaved, it
# pairs with its neighbour; dimensions that the table has no pairs for stay.
rope = Operation(
    "rope",
    rope_mlx,
    rope_reference,
    metal=InMetal(("rope.metal",), rope_metal, _key, _edges, takes=_covers),
)
