"""A linear layer's product on a GPU: each kernel takes some numbers of rows of some weights."""

import mlx.core as mx

from ..metal.library import Value, kernel, padded, scalar
from ..norm.rms_norm import Norm
from .activation import IN_METAL
from .linear_mlx import PLAIN, Epilogue, linear_mlx
from .linear_rows import covers, linear_rows
from .weight import Dense, Packed, Quantized, Weight
from .weight_metal import format_of, metal_weight

ROWS = 4  # rows of a weight that a simdgroup sums at once
SIMD = 32  # its lanes
WIDEST = 16  # bytes that a lane loads at once

# Simdgroups that share the rows of a weight, by its number of rows. Memory is busy from about
# 8 threadgroups a core on: on the 40 cores of the largest chips of one die, 320. Two simdgroups
# with 4 rows each make so many of 2,560 rows; fewer rows are shared by more simdgroups.
SHARED = ((2560, 1), (640, 2), (0, 4))


def linear_metal(
    x: mx.array, weight: Weight, epilogue: Epilogue = PLAIN, norm: Norm | None = None
) -> mx.array:
    """Run `linear` for one row by linear.metal, for a few by linear_rows.metal, for many by MLX."""
    if epilogue.activation is None or epilogue.activation in IN_METAL:
        if _is_row(x, weight):
            return _row(x, weight, epilogue, norm)
        if covers(x.shape[0], weight, x.dtype):
            return linear_rows(x, weight, epilogue, norm)
    return linear_mlx(x, weight, epilogue, norm)


def _is_row(x: mx.array, weight: Weight) -> bool:
    """Say whether there is one row, and a kernel for it."""
    known = not isinstance(weight, Quantized) or format_of(weight) is not None
    return x.shape[0] == 1 and bool(x.size) and known


def _row(x: mx.array, weight: Weight, epilogue: Epilogue, norm: Norm | None) -> mx.array:
    """Multiply one row of x by the kernel for the weight's storage."""
    assert not isinstance(weight, Packed)
    dtype, inputs, outputs = x.dtype, x.shape[1], weight.outputs
    activation = epilogue.number
    results = outputs // 2 if activation else outputs
    split = next(share for rows, share in SHARED if outputs >= rows)
    name, arrays, storage = _storage(weight, inputs)
    around = (x if norm is None else norm.weight, epilogue.bias, epilogue.residual)
    gain, bias, residual = (x if array is None else array for array in around)
    operands = [*arrays, gain, bias.astype(dtype), residual.astype(dtype)]
    sizes = [scalar(inputs, mx.int32), scalar(results, mx.int32)]
    numbers = [scalar(0.0 if norm is None else norm.eps), scalar(epilogue.limit), *sizes]
    tiles = -(-results // (ROWS // 2 if activation else ROWS))
    groups = tiles if split > 1 else -(-tiles // 2)
    threads = SIMD * max(2, split)
    (y,) = kernel(name)(
        [*(padded(array) for array in (x, *operands)), *numbers],
        [((1, results), dtype)],
        (threads * groups, 1, 1),
        (threads, 1, 1),
        T=dtype,
        G=gain.dtype,
        SPLIT=split,
        ACTIVATION=activation,
        NORM=norm is not None,
        BIAS=epilogue.bias is not None,
        RESIDUAL=epilogue.residual is not None,
        **storage,
    )
    return y


def _storage(
    weight: Dense | Quantized, inputs: int
) -> tuple[str, list[mx.array], dict[str, Value]]:
    """Name the kernel for a storage, the arrays that it reads and its template."""
    array = weight.weight
    if isinstance(weight, Dense):
        widest = WIDEST // array.dtype.size
        count = widest if inputs % widest == 0 else 1
        return "linear_dense", [array], {"W": array.dtype, "COUNT": count}
    stored = metal_weight(weight)
    return "linear", [*stored.arrays], stored.codes
