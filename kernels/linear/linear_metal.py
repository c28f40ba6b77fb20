"""A linear layer's product on a GPU: each kernel takes some numbers of rows of some weights."""

from dataclasses import replace
from functools import lru_cache, partial

import mlx.core as mx

from ..metal.library import SMALLEST, BoundKernel, Value, kernel, padded, scalar
from ..metal.occupancy import BUSY
from ..norm.rms_norm import Norm, rms_norm_mlx
from .activation import ACTIVATIONS, IN_METAL, Activation
from .embedding import embedding_metal
from .linear_mlx import PLAIN, Epilogue, by_parts, finished, linear_mlx
from .linear_rows import MAX_ROWS, covers, linear_rows
from .weight import Packed, Quantized, Weight, is_in_mlx
from .weight_metal import FLOATS, format_of

ROWS = 4  # rows of a weight that a simdgroup sums at once
SIMD = 32  # its lanes
WIDEST = 16  # bytes that a lane loads at once
Codes = tuple[mx.Dtype, int, int]  # a quantized weight's dtype of scales, format and group

SLICED = 64  # rows up to which reading codes again costs less than restoring them, and reading that
RESTORED = 1 << 25  # values of a weight that are restored at a time: 64 MB in 16 bits
# Simdgroups that share the rows of a weight, by its number of rows. Two simdgroups with 4 rows each
# make enough threadgroups of 8 times as many rows; fewer rows are shared by more simdgroups.
SHARED = ((8 * BUSY["linear"], 1), (2 * BUSY["linear"], 2), (0, 4))


def linear_metal(
    x: mx.array, weight: Weight, epilogue: Epilogue = PLAIN, norm: Norm | None = None
) -> mx.array:
    """Run `linear` for one row by linear.metal, for a few by linear_rows.metal, for many by MLX."""
    rows, is_foreign = x.shape[0], is_restored(weight)
    if epilogue.activation is None or epilogue.activation in IN_METAL:
        if _is_row(x, weight):
            return _row(x, weight, epilogue, norm)
        if covers(rows, weight, x.dtype):
            return linear_rows(x, weight, epilogue, norm)
        if is_foreign and MAX_ROWS < rows <= SLICED and x.dtype in FLOATS:
            return _slices(x, weight, epilogue, norm)
    if not is_foreign or not x.size or x.dtype not in FLOATS:
        return linear_mlx(x, weight, epilogue, norm)
    x = x if norm is None else rms_norm_mlx(x, norm.weight, norm.eps)
    assert isinstance(weight, Quantized)
    return finished(by_parts(x, weight, RESTORED, partial(_restored, dtype=x.dtype)), epilogue)


def is_restored(weight: Weight) -> bool:
    """Say whether MLX has no product of a weight's codes, and kernels here read them."""
    if not isinstance(weight, Quantized) or is_in_mlx(weight):
        return False
    return format_of(weight) is not None


def _slices(x: mx.array, weight: Weight, epilogue: Epilogue, norm: Norm | None) -> mx.array:
    """Multiply some rows at a time, each time reading the codes."""
    parts = []
    for start in range(0, x.shape[0], MAX_ROWS):
        rows, residual = slice(start, start + MAX_ROWS), epilogue.residual
        own = epilogue if residual is None else replace(epilogue, residual=residual[rows])
        parts.append(linear_rows(x[rows], weight, own, norm))
    return mx.concatenate(parts)


def _restored(weight: Weight, dtype: mx.Dtype) -> mx.array:
    return embedding_metal(mx.arange(weight.outputs, dtype=mx.int32), weight, dtype)


def _is_row(x: mx.array, weight: Weight) -> bool:
    """Say whether there is one row, and a kernel for it."""
    known = not isinstance(weight, Quantized) or format_of(weight) is not None
    return x.shape[0] == 1 and bool(x.size) and known


def _row(x: mx.array, weight: Weight, epilogue: Epilogue, norm: Norm | None) -> mx.array:
    """Multiply one row of x by the kernel for the weight's storage."""
    assert not isinstance(weight, Packed)
    dtype, bias, residual = x.dtype, epilogue.bias, epilogue.residual
    gain = x if norm is None else norm.weight
    arrays: tuple[mx.array, ...] = (weight.weight,)
    codes: Codes | None = None
    if isinstance(weight, Quantized):
        biases = weight.scales if weight.biases is None else weight.biases
        arrays = (weight.weight, weight.scales, biases)
        format = format_of(weight)
        assert format is not None
        codes = (weight.scales.dtype, format, weight.group)
    bound, numbers = _plan(
        *(weight.weight.dtype, codes, x.shape[1], weight.outputs, dtype, gain.dtype),
        *(epilogue.activation, epilogue.limit, None if norm is None else norm.eps),
        *(bias is not None, residual is not None),
    )
    added = (x if bias is None else bias.astype(dtype), x if residual is None else residual)
    operands = (x, *arrays, gain, added[0], added[1].astype(dtype))
    wide = [array if array.size >= SMALLEST else padded(array) for array in operands]
    return bound([*wide, *numbers])[0]


@lru_cache(maxsize=1024)
def _plan(
    stored: mx.Dtype,
    codes: Codes | None,
    inputs: int,
    outputs: int,
    dtype: mx.Dtype,
    gain: mx.Dtype,
    kind: Activation | None,
    limit: float,
    eps: float | None,
    bias: bool,
    residual: bool,
) -> tuple[BoundKernel, list[mx.array]]:
    """Plan a row's launch; the numbers come after its arrays."""
    results = outputs // 2 if kind else outputs
    split = next(share for rows, share in SHARED if outputs >= rows)
    tiles = -(-results // (ROWS // 2 if kind else ROWS))
    groups = tiles if split > 1 else -(-tiles // 2)
    threads = SIMD * max(2, split)
    if codes is None:
        widest = WIDEST // stored.size
        storage: dict[str, Value] = {"W": stored, "COUNT": 1 if inputs % widest else widest}
    else:
        storage = dict(zip(("S", "FORMAT", "GROUP"), codes, strict=True))
    bound = kernel("linear_dense" if codes is None else "linear").bound(
        [((1, results), dtype)],
        (threads * groups, 1, 1),
        (threads, 1, 1),
        T=dtype,
        G=gain,
        SPLIT=split,
        ACTIVATION=0 if kind is None else ACTIVATIONS[kind],
        NORM=eps is not None,
        BIAS=bias,
        RESIDUAL=residual,
        **storage,
    )
    sizes = [scalar(inputs, mx.int32), scalar(results, mx.int32)]
    return bound, [scalar(eps or 0.0), scalar(limit), *sizes]
