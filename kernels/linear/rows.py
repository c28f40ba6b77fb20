"""Rows are split, joined, gated and added: what lies between a layer's larger operations.

On a CPU each of MLX's own operations would wait 10 to 20 us for its turn, more than its work.
"""

from collections.abc import Sequence
from itertools import pairwise

import mlx.core as mx
import numpy as np

from ..cpu.library import LARGE, ready
from ..registry import Operation, in_numpy
from .sigmoid_gate import sigmoid_gate


def _is_few(x: mx.array, *_: object) -> bool:
    """Say whether x has so few values that they are taken at once, not by a graph of MLX's."""
    return 0 < x.size < LARGE and x.dtype == mx.float32


def _split_mlx(x: mx.array, bounds: Sequence[int]) -> list[mx.array]:
    return list(mx.split(x, list(bounds), axis=1))


@in_numpy(takes=_is_few)
def _split_numpy(x: mx.array, bounds: Sequence[int]) -> list[mx.array]:
    values = np.asarray(ready(x))
    return [mx.array(values[:, a:b]) for a, b in pairwise([0, *bounds, x.shape[1]])]


def _join_mlx(parts: Sequence[mx.array]) -> mx.array:
    return mx.concatenate(list(parts), axis=1)


@in_numpy(takes=lambda parts: all(map(_is_few, parts)))
def _join_numpy(parts: Sequence[mx.array]) -> mx.array:
    return mx.array(np.concatenate([np.asarray(ready(part)) for part in parts], axis=1))


def _shaped_mlx(x: mx.array, *shape: int) -> mx.array:
    return x.reshape(shape)


@in_numpy(takes=_is_few)
def _shaped_numpy(x: mx.array, *shape: int) -> mx.array:
    return mx.array(np.asarray(ready(x)).reshape(shape))


def _add_mlx(x: mx.array, y: mx.array, scale: float = 1.0) -> mx.array:
    return x + (y if scale == 1 else y * scale)


@in_numpy(takes=lambda x, y, scale=1.0: _is_few(x) and _is_few(y))
def _add_numpy(x: mx.array, y: mx.array, scale: float = 1.0) -> mx.array:
    a, b = np.asarray(ready(x)), np.asarray(ready(y))
    return mx.array(a + (b if scale == 1 else b * np.float32(scale)))


def _shares(y: mx.array, gates: mx.array) -> mx.array:
    return sigmoid_gate(mx.array(np.ones(gates.shape, np.float32)).astype(y.dtype), gates)


def _gated_add_mlx(y: mx.array, gates: mx.array, residual: mx.array | None) -> mx.array:
    out = y * _shares(y, gates)
    return out if residual is None else out + residual


@in_numpy(takes=_is_few)
def _gated_add_numpy(y: mx.array, gates: mx.array, residual: mx.array | None) -> mx.array:
    out = np.asarray(ready(y)) * np.asarray(_shares(y, gates))
    return mx.array(out if residual is None else out + np.asarray(ready(residual)))


# (rows, width) to parts of it by columns, which begin at 0 and at `bounds`.
split = Operation("split", _split_mlx, _split_mlx, _split_numpy)
# Parts of (rows, width) each, side by side.
join = Operation("join", _join_mlx, _join_mlx, _join_numpy)
# The same values in another shape; -1 stands for the length that comes out even.
shaped = Operation("shaped", _shaped_mlx, _shaped_mlx, _shaped_numpy)
# x + scale * y, of the same shape.
add = Operation("add", _add_mlx, _add_mlx, _add_numpy)
# y * sigmoid(gates), plus the residual: (rows, width), with gates (rows, 1).
gated_add = Operation("gated_add", _gated_add_mlx, _gated_add_mlx, _gated_add_numpy)
