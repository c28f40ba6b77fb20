"""A linear layer's product for 2 to 16 rows, on Metal: every weight is decoded once for all rows.

`linear_metal` hands such rows over to it; the definition is that of `linear`.
"""

import mlx.core as mx

from ..metal.library import kernel, scalar
from ..metal.occupancy import BUSY
from ..norm.rms_norm import Norm
from .linear_mlx import PLAIN, Epilogue
from .weight import Dense, Quantized, Weight
from .weight_metal import FLOATS, format_of, metal_weight

MIN_ROWS, MAX_ROWS = 2, 16  # rows
DENSE_GROUP = 32
THREADS = 256  # 8 simdgroups, which share a threadgroup's inputs
TILE = 8  # outputs
REGISTERS = 64  # for what grows with a threadgroup's height


def covers(rows: int, weight: Weight, dtype: mx.Dtype) -> bool:
    """Say whether the kernel takes these; a dense weight must have a multiple of 32 inputs."""
    if not MIN_ROWS <= rows <= MAX_ROWS or dtype not in FLOATS:
        return False
    if isinstance(weight, Dense):
        return weight.weight.dtype in FLOATS and weight.weight.shape[1] % DENSE_GROUP == 0
    return isinstance(weight, Quantized) and format_of(weight) is not None


def linear_rows(
    x: mx.array, weight: Weight, epilogue: Epilogue = PLAIN, norm: Norm | None = None
) -> mx.array:
    """Run `linear` for what `covers` says yes to."""
    assert isinstance(weight, Dense | Quantized)
    rows, inputs = x.shape
    bias, residual, activation = epilogue.bias, epilogue.residual, epilogue.number
    width = weight.outputs // 2 if activation else weight.outputs
    columns = 8 if rows <= 8 else 16
    tiles = tiles_of(weight, columns)
    outputs = TILE * (tiles // 2 if activation else tiles)
    stored = metal_weight(weight)
    (y,) = kernel("linear_rows")(
        [
            x,
            *stored.arrays,
            x if bias is None else bias,
            x if residual is None else residual,
            x if norm is None else norm.weight,
            scalar(0.0 if norm is None else norm.eps),
            scalar(epilogue.limit),
            scalar(rows, mx.int32),
            scalar(inputs, mx.int32),
            scalar(width, mx.int32),
        ],
        [((rows, width), x.dtype)],
        (-(-width // outputs) * THREADS, 1, 1),
        (THREADS, 1, 1),
        T=x.dtype,
        FORMAT=stored.kind,
        GROUP=stored.group,
        TILES=tiles,
        COLUMNS=columns,
        ACTIVATION=activation,
        BIAS=bias is not None,
        RESIDUAL=residual is not None,
        NORM=norm is not None,
    )
    return y


def tiles_of(weight: Dense | Quantized, columns: int) -> int:
    """Count a threadgroup's tiles of outputs: the more, the fewer threadgroups read x."""
    codes = -(-weight.group * weight.bits // 128) if isinstance(weight, Quantized) else 1
    registers = columns // 4 + codes + 2  # a lane's sums, codes, and scale and bias, for a tile
    for tiles in (8, 4):
        threadgroups = weight.outputs // (TILE * tiles)
        if threadgroups * columns >= BUSY["linear_rows"] * 8 and tiles * registers <= REGISTERS:
            return tiles
    return 2
