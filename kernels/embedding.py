"""Rows of an embedding matrix, dense, quantized or packed, by token."""

import ctypes

import mlx.core as mx
import numpy as np

from .cpu.library import INT, POINTER, Function, address, empty
from .registry import InC, Operation, is_filled
from .weight import Dense, Matrix, Quantized, Weight, matrix, widen


def _embedding_c(native: Function, tokens: mx.array, weight: Weight, dtype: mx.Dtype) -> mx.array:
    described = matrix(weight)
    ids = np.ascontiguousarray(tokens, np.int32)
    out = empty(ids.size, described.inputs)
    native(described, address(ids), ids.size, address(out))
    rows = mx.array(out)
    return rows if dtype == mx.float32 else rows.astype(dtype)


def _embedding_mlx(tokens: mx.array, weight: Weight, dtype: mx.Dtype) -> mx.array:
    """By MLX's own operations."""
    if isinstance(weight, Dense):
        return weight.weight[tokens].astype(dtype)
    assert isinstance(weight, Quantized)  # what is packed has a C kernel
    chosen = Quantized(
        weight.weight[tokens],
        weight.scales[tokens],
        None if weight.biases is None else weight.biases[tokens],
        weight.group,
        weight.bits,
        weight.mode,
    )
    return widen(chosen).astype(dtype)


def embedding_reference(tokens: mx.array, weight: Weight, dtype: mx.Dtype) -> mx.array:
    """The definition: the whole matrix restored, then its rows."""
    return widen(weight)[tokens].astype(dtype)


# (rows,) to (rows, width); quantized rows are restored in float32, whatever their scales. A
# negative token counts from the end. No token may be out of range: the C kernel then takes the
# nearest row, MLX whatever memory holds.
embedding = Operation(
    "embedding",
    _embedding_mlx,
    embedding_reference,
    InC(
        "op_embedding",
        (ctypes.POINTER(Matrix), POINTER, INT, POINTER),
        _embedding_c,
        takes=is_filled,
    ),
)
