"""A linear layer's product for 2 to 16 rows, on Metal: every weight is decoded once for all rows.

`linear_metal` hands such rows over to it; the definition is that of `linear`.
"""

from functools import lru_cache

import mlx.core as mx

from ..metal.library import BoundKernel, kernel, scalar
from ..metal.occupancy import BUSY
from ..norm.rms_norm import Norm
from .linear_mlx import PLAIN, Epilogue
from .superblocks import SUPERBLOCKS
from .weight import Dense, Quantized, Weight
from .weight_metal import FLOATS, format_of, metal_weight

MIN_ROWS, MAX_ROWS = 2, 16  # rows
DENSE_GROUP = 32
THREADS = 256  # 8 simdgroups, which share a threadgroup's inputs
TILE = 8  # outputs
REGISTERS = 64  # for what grows with a threadgroup's height
SHORTEST, SUPERBLOCK_TURN = 32, 64  # inputs that a simdgroup takes at once
SHARED = 5  # registers for what is kept of a superblock


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
    bias, residual = epilogue.bias, epilogue.residual
    stored, columns = metal_weight(weight), 8 if x.shape[0] <= 8 else 16
    bound, numbers = _plan(
        *(stored.kind, stored.group, weight.outputs, tiles_of(weight, columns), columns),
        *(*x.shape, x.dtype, epilogue.number, epilogue.limit, None if norm is None else norm.eps),
        *(bias is not None, residual is not None),
    )
    optional = (bias, residual, None if norm is None else norm.weight)
    return bound(
        [x, *stored.arrays, *(x if part is None else part for part in optional), *numbers]
    )[0]


@lru_cache(maxsize=1024)
def _plan(
    kind: int,
    group: int,
    outputs: int,
    tiles: int,
    columns: int,
    rows: int,
    inputs: int,
    dtype: mx.Dtype,
    activation: int,
    limit: float,
    eps: float | None,
    bias: bool,
    residual: bool,
) -> tuple[BoundKernel, list[mx.array]]:
    """Plan a launch; the numbers come after its arrays."""
    width = outputs // 2 if activation else outputs
    results = TILE * (tiles // 2 if activation else tiles)
    bound = kernel("linear_rows").bound(
        [((rows, width), dtype)],
        (-(-width // results) * THREADS, 1, 1),
        (THREADS, 1, 1),
        T=dtype,
        FORMAT=kind,
        GROUP=group,
        TILES=tiles,
        COLUMNS=columns,
        ACTIVATION=activation,
        BIAS=bias,
        RESIDUAL=residual,
        NORM=eps is not None,
    )
    sizes = [scalar(size, mx.int32) for size in (rows, inputs, width)]
    return bound, [scalar(eps or 0.0), scalar(limit), *sizes]


def _codes(weight: Dense | Quantized) -> int:
    """Count a lane's registers for a tile's codes of a turn, and its superblock's numbers."""
    if isinstance(weight, Dense):
        return 1
    in_superblocks = weight.mode in SUPERBLOCKS
    turn = SUPERBLOCK_TURN if in_superblocks else max(weight.group, SHORTEST)
    return -(-turn * weight.bits // 128) + SHARED * in_superblocks


def tiles_of(weight: Dense | Quantized, columns: int) -> int:
    """Count a threadgroup's tiles of outputs: the more, the fewer threadgroups read x."""
    registers = columns // 4 + 2 + _codes(weight)  # a lane's sums, scale and bias, codes of a tile
    for tiles in (8, 4):
        threadgroups = weight.outputs // (TILE * tiles)
        if threadgroups * columns >= BUSY["linear_rows"] * 8 and tiles * registers <= REGISTERS:
            return tiles
    return 2
