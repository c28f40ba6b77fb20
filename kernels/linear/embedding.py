"""An embedding looks up rows of a matrix, dense, quantized or packed, by token."""

import mlx.core as mx
import numpy as np

from ..cpu.library import ARRAY, INT, Function, array, empty
from ..registry import Operation, in_c, is_filled
from .weight import MATRIX, Dense, Quantized, Weight, arrays_of, matrix, widen, with_arrays


@in_c("op_embedding", MATRIX, ARRAY, INT, ARRAY, takes=is_filled)
def _embedding_c(native: Function, tokens: mx.array, weight: Weight, dtype: mx.Dtype) -> mx.array:
    described = matrix(weight)
    ids = np.ascontiguousarray(tokens, np.int32)
    out = empty(ids.size, described.inputs)
    native(described, ids, ids.size, out)
    rows = array(out)
    return rows if dtype == mx.float32 else rows.astype(dtype)


def _embedding_mlx(tokens: mx.array, weight: Weight, dtype: mx.Dtype) -> mx.array:
    """Look rows up by MLX's own operations."""
    if isinstance(weight, Dense):
        return weight.weight[tokens].astype(dtype)
    assert isinstance(weight, Quantized)  # what is packed has a C kernel
    stored = with_arrays(weight, [part[tokens] for part in arrays_of(weight)])
    return widen(stored).astype(dtype)


def embedding_reference(tokens: mx.array, weight: Weight, dtype: mx.Dtype) -> mx.array:
    """Compute the definition: restore the whole matrix, then take its rows."""
    return widen(weight)[tokens].astype(dtype)


# (rows,) to (rows, width); quantized rows are restored in float32, whatever their scales. A
# negative token counts from the end. No token may be out of range: the C kernel then takes the
# nearest row, MLX whatever memory holds.
embedding = Operation("embedding", _embedding_mlx, embedding_reference, _embedding_c)
