"""Rows taken apart, put together, gated and added: what lies between a layer's larger operations.

On a CPU each of MLX's own operations would wait 10 to 20 us for its turn, more than its work.
"""

from collections.abc import Sequence
from itertools import pairwise

import mlx.core as mx
import numpy as np

from ..cpu.library import ARRAY, INT, LARGE, VALUES, Function, array, output, ready
from ..registry import Operation, c_library, in_c


def split(x: mx.array, ends: Sequence[int]) -> list[mx.array]:
    """(rows, width) to parts of it by columns, which begin at 0 and at `ends`."""
    if not _direct(x):
        return list(mx.split(x, list(ends), axis=1))
    whole = np.asarray(ready(x))
    return [mx.array(whole[:, a:b]) for a, b in pairwise([0, *ends, x.shape[1]])]


def join(parts: Sequence[mx.array]) -> mx.array:
    """Parts of (rows, width) each, side by side."""
    if not all(map(_direct, parts)):
        return mx.concatenate(list(parts), axis=1)
    return mx.array(np.concatenate([np.asarray(ready(part)) for part in parts], axis=1))


def shaped(x: mx.array, *shape: int) -> mx.array:
    """The same values in another shape, of which -1 is what comes out even."""
    return mx.array(np.asarray(ready(x)).reshape(shape)) if _direct(x) else x.reshape(shape)


def add(x: mx.array, y: mx.array, scale: float = 1.0) -> mx.array:
    """x + scale * y, of the same shape."""
    if not (_direct(x) and _direct(y)):
        return x + (y if scale == 1 else y * scale)
    a, b = np.asarray(ready(x)), np.asarray(ready(y))
    return mx.array(a + (b if scale == 1 else b * np.float32(scale)))


def opened_reference(x: mx.array, gates: mx.array) -> mx.array:
    """The definition."""
    return x * mx.sigmoid(gates)


@in_c("op_opened", VALUES, VALUES, INT, INT, ARRAY)
def _opened_c(native: Function, x: mx.array, gates: mx.array) -> mx.array:
    out = output(*x.shape)
    native(x, gates, *x.shape, out)
    return array(out)


# x * sigmoid(gates), (rows, width) each.
opened = Operation("opened", opened_reference, opened_reference, _opened_c)


def weighed(y: mx.array, gates: mx.array, residual: mx.array | None) -> mx.array:
    """y * sigmoid(gates), plus the residual: (rows, width), with a gate of (rows, 1) for each."""
    shares = opened(mx.array(np.ones(gates.shape, np.float32)).astype(y.dtype), gates)
    if not _direct(y):
        return y * shares if residual is None else y * shares + residual
    out = np.asarray(ready(y)) * np.asarray(shares)
    return mx.array(out if residual is None else out + np.asarray(ready(residual)))


def _direct(x: mx.array) -> bool:
    """Whether its values are few enough to be taken at once, rather than by a graph of MLX's."""
    few = 0 < x.size < LARGE and x.dtype == mx.float32
    return few and c_library() is not None
