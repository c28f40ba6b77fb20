"""Rows are split, joined, gated and added: what lies between a layer's larger operations.

On a CPU each of MLX's own operations would wait 10 to 20 us for its turn, more than its work.
"""

from collections.abc import Sequence
from itertools import pairwise

import mlx.core as mx
import numpy as np

from ..cpu.library import LARGE, ready
from ..registry import c_library
from .sigmoid_gate import sigmoid_gate


def split(x: mx.array, bounds: Sequence[int]) -> list[mx.array]:
    """Return parts of (rows, width) by columns; they begin at 0 and at `bounds`."""
    if not _direct(x):
        return list(mx.split(x, list(bounds), axis=1))
    values = np.asarray(ready(x))
    return [mx.array(values[:, a:b]) for a, b in pairwise([0, *bounds, x.shape[1]])]


def join(parts: Sequence[mx.array]) -> mx.array:
    """Put parts of (rows, width) each side by side."""
    if not all(map(_direct, parts)):
        return mx.concatenate(list(parts), axis=1)
    return mx.array(np.concatenate([np.asarray(ready(part)) for part in parts], axis=1))


def shaped(x: mx.array, *shape: int) -> mx.array:
    """Return the same values in another shape; -1 stands for the length that comes out even."""
    return mx.array(np.asarray(ready(x)).reshape(shape)) if _direct(x) else x.reshape(shape)


def add(x: mx.array, y: mx.array, scale: float = 1.0) -> mx.array:
    """Return x + scale * y, of the same shape."""
    if not (_direct(x) and _direct(y)):
        return x + (y if scale == 1 else y * scale)
    a, b = np.asarray(ready(x)), np.asarray(ready(y))
    return mx.array(a + (b if scale == 1 else b * np.float32(scale)))


def gated_add(y: mx.array, gates: mx.array, residual: mx.array | None) -> mx.array:
    """Return y * sigmoid(gates), plus the residual: (rows, width), with gates (rows, 1)."""
    shares = sigmoid_gate(mx.array(np.ones(gates.shape, np.float32)).astype(y.dtype), gates)
    if not _direct(y):
        return y * shares if residual is None else y * shares + residual
    out = np.asarray(ready(y)) * np.asarray(shares)
    return mx.array(out if residual is None else out + np.asarray(ready(residual)))


def _direct(x: mx.array) -> bool:
    """Say whether x has so few values that they are taken at once, not by a graph of MLX's."""
    few = 0 < x.size < LARGE and x.dtype == mx.float32
    return few and c_library() is not None
