"""Rows of an embedding matrix, dense, quantized or packed, by token."""

import ctypes
from functools import cache

import mlx.core as mx
import numpy as np

from .cpu.library import INT, POINTER, Function, address, empty, library
from .metal.device import device
from .weight import Dense, Matrix, Quantized, Weight, matrix, widen


def embedding(tokens: mx.array, weight: Weight, dtype: mx.Dtype) -> mx.array:
    """(rows,) to (rows, width); quantized rows are restored in float32, whatever their scales.

    A negative token counts from the end. No token may be out of range: the C kernel then takes the
    nearest row, MLX whatever memory holds.
    """
    native = _native() if device() is None else None
    if native is not None and tokens.size:
        described = matrix(weight)
        ids = np.ascontiguousarray(tokens, np.int32)
        out = empty(ids.size, described.inputs)
        native(described, address(ids), ids.size, address(out))
        rows = mx.array(out)
        return rows if dtype == mx.float32 else rows.astype(dtype)
    return embedding_composed(tokens, weight, dtype)


def embedding_composed(tokens: mx.array, weight: Weight, dtype: mx.Dtype) -> mx.array:
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


@cache
def _native() -> Function | None:
    found = library()
    types = (ctypes.POINTER(Matrix), POINTER, INT, POINTER)
    return None if found is None else found.function("op_embedding", *types)
