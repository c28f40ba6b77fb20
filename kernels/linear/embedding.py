"""An embedding looks up rows of a matrix, dense, quantized or packed, by token."""

from collections.abc import Iterator

import mlx.core as mx
import numpy as np

from ..cpu.library import ARRAY, INT, Function, array, empty
from ..metal.library import SMALLEST, kernel, scalar
from ..registry import InMetal, Key, Operation, bucket, in_c, is_filled
from .weight import MATRIX, Dense, Quantized, Weight, arrays_of, matrix, storage, widen, with_arrays
from .weight_metal import FLOATS, format_of, metal_weight

EACH, THREADS = 8, 256  # values of a thread, as in embedding.metal


@in_c("op_embedding", MATRIX, ARRAY, INT, ARRAY, takes=is_filled)
def _embedding_c(native: Function, tokens: mx.array, weight: Weight, dtype: mx.Dtype) -> mx.array:
    described = matrix(weight)
    ids = np.ascontiguousarray(tokens, np.int32)
    out = empty(ids.size, described.inputs)
    native(described, ids, ids.size, out)
    rows = array(out)
    return rows if dtype == mx.float32 else rows.astype(dtype)


def embedding_mlx(tokens: mx.array, weight: Weight, dtype: mx.Dtype) -> mx.array:
    """Look rows up by MLX's own operations."""
    if isinstance(weight, Dense):
        return weight.weight[tokens].astype(dtype)
    assert isinstance(weight, Quantized)  # what is packed has a C kernel
    stored = with_arrays(weight, [part[tokens] for part in arrays_of(weight)])
    return widen(stored).astype(dtype)


def embedding_metal(tokens: mx.array, weight: Weight, dtype: mx.Dtype) -> mx.array:
    """Look rows up and restore them by our kernel, for what it `covers`."""
    stored = metal_weight(weight)
    rows, width = tokens.shape[0], _width(weight)
    threads = -(-width // EACH)
    return kernel("embedding")(
        [tokens, *stored.arrays, scalar(weight.outputs, mx.int32), scalar(width, mx.int32)],
        [((rows, width), dtype)],
        (-(-threads // THREADS) * THREADS, rows, 1),
        (THREADS, 1, 1),
        **stored.codes,
        T=dtype,
        FEW=rows < SMALLEST,
    )[0]


def covers(tokens: mx.array, weight: Weight, dtype: mx.Dtype) -> bool:
    """Say whether the Metal kernel takes this storage; MLX takes dense rows in one launch too."""
    known = isinstance(weight, Quantized) and format_of(weight) is not None
    return known and tokens.dtype == mx.int32 and tokens.size > 0 and dtype in FLOATS


def _width(weight: Weight) -> int:
    assert isinstance(weight, Quantized)
    return weight.weight.shape[1] * 32 // weight.bits


def _key(tokens: mx.array, weight: Weight, dtype: mx.Dtype) -> Key:
    few = tokens.shape[0] < SMALLEST
    return (bucket(tokens.shape[0]), few, weight.outputs, *storage(weight), dtype)


def _edges(dtype: mx.Dtype) -> Iterator[tuple[mx.array, Weight, mx.Dtype]]:
    """Yield few tokens and many, the last row and its number from the end."""
    for tokens, width in (([0, 8, -1], 64), ([8, *range(8)], 2080)):
        for each in (mx.float32, mx.float16):
            values = mx.random.normal((9, width)).astype(each)
            weight = Quantized(*mx.quantize(values, group_size=32, bits=4), 32, 4)
            yield mx.array(tokens, mx.int32), weight, each


def embedding_reference(tokens: mx.array, weight: Weight, dtype: mx.Dtype) -> mx.array:
    """Compute the definition: restore the whole matrix, then take its rows."""
    return widen(weight)[tokens].astype(dtype)


# (rows,) to (rows, width); quantized rows are restored in float32, whatever their scales. A
# negative token counts from the end. No token may be out of range: the C kernel then takes the
# nearest row, MLX whatever memory holds.
embedding = Operation(
    "embedding",
    embedding_mlx,
    embedding_reference,
    _embedding_c,
    InMetal(("embedding.metal",), embedding_metal, _key, _edges, takes=covers),
)
