"""A linear layer with a matrix a head: latent attention's way into its latent space and back."""

from collections.abc import Iterator

import mlx.core as mx

from ..cpu.library import ARRAY, INT, VALUES, Function, array, output
from ..metal.library import kernel, scalar
from ..registry import InMetal, Key, Operation, bucket, in_c, in_float32
from .linear_mlx import product
from .weight import (
    MATRIX,
    Dense,
    Quantized,
    Weight,
    arrays_of,
    in_mlx,
    matrix,
    widen,
    with_arrays,
)
from .weight_metal import FLOATS, RUN, as_metal, metal_weight

MAX_ROWS = 16  # the kernel reads a weight once for all of them, and x from a cache
LANE_VALUES = 32  # values of a row that a lane takes
SIMD, THREADS = 32, 128


@in_c("op_head_linear", MATRIX, VALUES, INT, INT, INT, ARRAY)
def _head_linear_c(
    native: Function, x: mx.array, weight: Weight, heads: int, rest: int = 0
) -> mx.array:
    out = output(x.shape[0], weight.outputs + heads * rest)
    native(matrix(weight), x, x.shape[0], heads, rest, out)
    return array(out)


def covers(x: mx.array, weight: Weight, heads: int, rest: int = 0) -> bool:
    """Say whether the Metal kernel takes so many rows of this size and storage."""
    rows, width = x.shape[0], x.shape[1] // heads
    unit = RUN if not isinstance(weight, Quantized) else LANE_VALUES
    return (
        0 < rows <= MAX_ROWS
        and x.dtype in FLOATS
        and as_metal(weight) is not None
        and 0 < width - rest <= SIMD * LANE_VALUES
        and not (width - rest) % unit
        and not rest % 4
        and x.size >= RUN
    )


def head_linear_metal(x: mx.array, weight: Weight, heads: int, rest: int = 0) -> mx.array:
    """Run `head_linear` by our kernel, for what it `covers`."""
    stored = metal_weight(weight)
    rows, width = x.shape[0], x.shape[1] // heads
    inputs, outputs = width - rest, weight.outputs // heads
    lanes = 1 << max(0, -(-inputs // LANE_VALUES) - 1).bit_length()
    near = SIMD // lanes
    sets = 2 if rows > 1 and not outputs % (2 * near) else 1
    results = THREADS // SIMD * near * sets
    return kernel("head_linear")(
        [x, *stored.arrays, scalar(rows, mx.int32)],
        [((rows, heads * (outputs + rest)), x.dtype)],
        (-(-weight.outputs // results) * THREADS, 1, 1),
        (THREADS, 1, 1),
        **stored.template,
        T=x.dtype,
        HEADS=heads,
        INPUTS=inputs,
        OUTPUTS=outputs,
        LANES=lanes,
        SETS=sets,
        REST=rest,
    )[0]


def head_linear_mlx(x: mx.array, weight: Weight, heads: int, rest: int = 0) -> mx.array:
    """Multiply by MLX's own operation, with as many matrices as there are heads."""
    if not x.shape[0]:
        return mx.zeros((0, weight.outputs + heads * rest), x.dtype)
    each = mx.unflatten(x, 1, (heads, -1))
    head, passed = mx.split(each, [each.shape[-1] - rest], axis=-1)
    y = _product(head.swapaxes(0, 1), weight, heads).swapaxes(0, 1).astype(x.dtype)
    return (mx.concatenate([y, passed], axis=-1) if rest else y).flatten(1)


def head_linear_reference(x: mx.array, weight: Weight, heads: int, rest: int = 0) -> mx.array:
    """Compute the definition, in float32."""
    each = mx.unflatten(x, 1, (heads, -1))
    inputs = each.shape[-1] - rest
    wide = widen(weight).reshape(heads, -1, inputs)
    y = mx.sum(each[:, :, None, :inputs].astype(mx.float32) * wide[None], axis=-1)
    return mx.concatenate([y.astype(x.dtype), each[..., inputs:]], axis=-1).flatten(1)


def _product(x: mx.array, weight: Weight, heads: int) -> mx.array:
    """Multiply (heads, rows, inputs) to (heads, rows, outputs)."""
    weight = in_mlx(weight)
    if isinstance(weight, Dense):
        wide = weight.weight.astype(x.dtype)
        return x @ mx.unflatten(wide, 0, (heads, -1)).swapaxes(1, 2)
    parts = [mx.unflatten(part, 0, (heads, -1)) for part in arrays_of(weight)]
    return product(x, with_arrays(weight, parts))


def _key(x: mx.array, weight: Weight, heads: int, rest: int = 0) -> Key:
    return (bucket(x.shape[0]), heads, x.shape[1], weight.outputs, x.dtype, rest)


def _edges(dtype: mx.Dtype) -> Iterator[tuple[mx.array, Weight, int, int]]:
    for rows, outputs, rest in ((1, 7, 0), (2, 9, 4)):
        values = mx.random.normal((3 * outputs, 64)).astype(dtype)
        weight = Quantized(*mx.quantize(values, 64, 4), 64, 4)
        x = mx.random.normal((rows, 3 * (64 + rest))).astype(dtype)
        yield x, weight, 3, rest
        yield x, Dense(values), 3, rest


# (rows, heads * (inputs + rest)) to (rows, heads * (outputs + rest)), in the dtype of x. weight:
# (heads * outputs, inputs), a head's outputs one after the other; packed only if no head begins in
# the middle of a panel (kernels.moe.pack_experts). The last `rest` values of each head follow its
# outputs as they are.
head_linear = Operation(
    "head_linear",
    head_linear_mlx,
    head_linear_reference,
    _head_linear_c,
    InMetal(
        ("head_linear.metal",),
        head_linear_metal,
        _key,
        _edges,
        takes=covers,
        oracle=in_float32(head_linear_reference),
    ),
)
