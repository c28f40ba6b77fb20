"""Rows are split, joined, gated and added: what lies between a layer's larger operations.

On a CPU each of MLX's own operations would wait 10 to 20 us for its turn, more than its work.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import mlx.core as mx
import numpy as np

from ..cpu.library import (
    ARRAY,
    FLOAT,
    INT,
    LARGE,
    POINTER,
    VALUES,
    Function,
    address,
    array,
    empty,
    ready,
    reshaped,
)
from ..registry import Operation, in_c, in_numpy
from .sigmoid_gate import sigmoid_gate

COPY = ("op_copy_columns", POINTER, INT, INT, INT, POINTER, INT)
FLOATS = 4  # bytes of a number


def _is_few(x: mx.array, *_: object) -> bool:
    """Say whether x has so few values that they are taken at once, not by a graph of MLX's."""
    return 0 < x.size < LARGE and x.dtype == mx.float32


def _are_few(x: mx.array, y: mx.array, *_: object) -> bool:
    return _is_few(x) and _is_few(y) and x.shape == y.shape


def _split_mlx(x: mx.array, bounds: Sequence[int]) -> list[mx.array]:
    return list(mx.split(x, list(bounds), axis=1))


@in_c(*COPY, takes=_is_few)
def _split_c(native: Function, x: mx.array, bounds: Sequence[int]) -> list[mx.array]:
    x, parts = ready(x), []
    (rows, width), start = x.shape, address(x)
    for first, stop in pairwise([0, *(min(bound, width) for bound in bounds), width]):
        part = empty(rows, stop - first)
        if part.size:
            native(start + FLOATS * first, width, rows, stop - first, address(part), stop - first)
        parts.append(array(part))
    return parts


def _join_mlx(parts: Sequence[mx.array]) -> mx.array:
    return mx.concatenate(list(parts), axis=1)


@in_c(*COPY, takes=lambda parts: all(map(_is_few, parts)))
def _join_c(native: Function, parts: Sequence[mx.array]) -> mx.array:
    rows, widths = parts[0].shape[0], [part.shape[1] for part in parts]
    out = empty(rows, sum(widths))
    starts = accumulate(widths[:-1], initial=0)
    for part, width, first in zip(map(ready, parts), widths, starts, strict=True):
        native(address(part), width, rows, width, address(out) + FLOATS * first, sum(widths))
    return array(out)


def _shaped_mlx(x: mx.array, *shape: int) -> mx.array:
    return x.reshape(shape)


@in_numpy(takes=_is_few)
def _shaped_numpy(x: mx.array, *shape: int) -> mx.array:
    return reshaped(x, *shape)


def _add_mlx(x: mx.array, y: mx.array, scale: float = 1.0) -> mx.array:
    return x + (y if scale == 1 else y * scale)


ADD = ("op_add", VALUES, VALUES, FLOAT, INT, ARRAY)


@in_c(*ADD, takes=_are_few)
def _add_c(native: Function, x: mx.array, y: mx.array, scale: float = 1.0) -> mx.array:
    out = empty(*y.shape)
    native(x, y, scale, y.size, out)
    return array(out)


def _scaled_mlx(x: mx.array, scale: float) -> mx.array:
    return x * scale


@in_c(*ADD, takes=_is_few)
def _scaled_c(native: Function, x: mx.array, scale: float) -> mx.array:
    out = empty(*x.shape)
    native(None, x, scale, x.size, out)
    return array(out)


def _multiply_mlx(x: mx.array, y: mx.array) -> mx.array:
    return x * y


@in_c("op_multiply", VALUES, VALUES, INT, ARRAY, takes=_are_few)
def _multiply_c(native: Function, x: mx.array, y: mx.array) -> mx.array:
    out = empty(*x.shape)
    native(x, y, x.size, out)
    return array(out)


def _shares(y: mx.array, gates: mx.array) -> mx.array:
    return sigmoid_gate(mx.array(np.ones(gates.shape, np.float32)).astype(y.dtype), gates)


def _gated_add_mlx(y: mx.array, gates: mx.array, residual: mx.array | None) -> mx.array:
    out = y * _shares(y, gates)
    return out if residual is None else out + residual


@in_c("op_gated_add", VALUES, VALUES, VALUES, INT, INT, ARRAY, takes=_is_few)
def _gated_add_c(
    native: Function, y: mx.array, gates: mx.array, residual: mx.array | None
) -> mx.array:
    out = empty(*y.shape)
    native(y, gates, residual, *y.shape, out)
    return array(out)


# (rows, width) to parts of it by columns, which begin at 0 and at `bounds`.
split = Operation("split", _split_mlx, _split_mlx, _split_c)
# Parts of (rows, width) each, side by side.
join = Operation("join", _join_mlx, _join_mlx, _join_c)
# The same values in another shape; -1 stands for the length that comes out even.
shaped = Operation("shaped", _shaped_mlx, _shaped_mlx, _shaped_numpy)
# x + scale * y, of the same shape.
add = Operation("add", _add_mlx, _add_mlx, _add_c)
# x * scale.
scaled = Operation("scaled", _scaled_mlx, _scaled_mlx, _scaled_c)
# x * y, of the same shape.
multiply = Operation("multiply", _multiply_mlx, _multiply_mlx, _multiply_c)
# y * sigmoid(gates), plus the residual: (rows, width), with gates (rows, 1).
gated_add = Operation("gated_add", _gated_add_mlx, _gated_add_mlx, _gated_add_c)
