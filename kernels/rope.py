"""Rotary positions: one table a step, shared by all layers, applied to queries and keys."""

from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True, slots=True)
class Table:
    """cos and sin: (rows, 1, head_dim / 2) float32, the attention factor multiplied in."""

    cos: mx.array
    sin: mx.array


def rope_table(positions: mx.array, frequencies: mx.array, factor: float) -> Table:
    """positions: (rows,); frequencies: (head_dim / 2,) float32, in radians a token."""
    angles = (positions.astype(mx.float32)[:, None] * frequencies)[:, None, :]
    return Table(mx.cos(angles) * factor, mx.sin(angles) * factor)


def rope(x: mx.array, table: Table) -> mx.array:
    """Rotates (rows, heads, head_dim): dimension i pairs with i + head_dim / 2."""
    a, b = mx.split(x, 2, axis=-1)
    cos, sin = table.cos, table.sin
    return mx.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def rope_reference(x: mx.array, table: Table) -> mx.array:
    """The definition: each pair is a complex number, multiplied by its phase."""
    a, b = mx.split(x.astype(mx.float32), 2, axis=-1)
    turned = (a + 1j * b) * (table.cos + 1j * table.sin)
    return mx.concatenate([mx.real(turned), mx.imag(turned)], axis=-1).astype(x.dtype)
