"""A linear layer's product on a GPU: which kernel takes which rows of which weight."""

from dataclasses import dataclass

import mlx.core as mx

from .activation import ACTIVATIONS, IN_METAL, Activation
from .linear_rows import covers, gated_linear_rows, linear_rows
from .metal.library import Value, kernel, padded, scalar
from .product import gated_linear_composed, linear_composed
from .rms_norm import Norm
from .stored import format_of
from .weight import Dense, Packed, Quantized, Weight

ROWS = 4  # rows of a weight that a simdgroup sums at once
SIMD = 32  # its lanes
WIDEST = 16  # bytes that a lane loads at once

# Simdgroups that share the rows of a weight, by its number of rows. Memory is busy from about
# 8 threadgroups a core on: on the 40 cores of the largest chips of one die, 320. Two simdgroups
# with 4 rows each make so many of 2,560 rows; fewer rows are shared by more simdgroups.
SHARED = ((2560, 1), (640, 2), (0, 4))


@dataclass(frozen=True, slots=True)
class After:
    """What happens to the products before they are stored."""

    bias: mx.array | None = None
    residual: mx.array | None = None
    activation: int = 0
    limit: float = 0.0


def linear_metal(
    x: mx.array,
    weight: Weight,
    bias: mx.array | None = None,
    residual: mx.array | None = None,
    norm: Norm | None = None,
) -> mx.array:
    """As `linear`: a row by linear.metal, a few of them by linear_rows.metal, many by MLX."""
    if _is_row(x, weight):
        return _row(x, weight, norm, After(bias, residual))
    if covers(x.shape[0], weight, x.dtype):
        return linear_rows(x, weight, bias, residual, norm)
    return linear_composed(x, weight, bias, residual, norm)


def gated_linear_metal(
    x: mx.array,
    weight: Weight,
    bias: mx.array | None = None,
    activation: Activation = "silu",
    limit: float = 7.0,
    norm: Norm | None = None,
) -> mx.array:
    """As `gated_linear`, by the kernels of `linear_metal`."""
    if activation not in IN_METAL:
        return gated_linear_composed(x, weight, bias, activation, limit, norm)
    if _is_row(x, weight):
        return _row(x, weight, norm, After(bias, None, ACTIVATIONS[activation], limit))
    if covers(x.shape[0], weight, x.dtype):
        return gated_linear_rows(x, weight, bias, activation, limit, norm)
    return gated_linear_composed(x, weight, bias, activation, limit, norm)


def _is_row(x: mx.array, weight: Weight) -> bool:
    """Whether there is one row, and a kernel for it."""
    known = not isinstance(weight, Quantized) or format_of(weight) is not None
    return x.shape[0] == 1 and bool(x.size) and known


def _row(x: mx.array, weight: Weight, norm: Norm | None, after: After) -> mx.array:
    """One row of x by the kernel for the weight's storage."""
    assert not isinstance(weight, Packed)
    dtype, inputs, outputs = x.dtype, x.shape[1], weight.outputs
    results = outputs // 2 if after.activation else outputs
    split = next(share for rows, share in SHARED if outputs >= rows)
    name, arrays, storage = _stored(weight, inputs)
    around = (x if norm is None else norm.weight, after.bias, after.residual)
    gain, bias, residual = (x if array is None else array for array in around)
    operands = [*arrays, gain, bias.astype(dtype), residual.astype(dtype)]
    sizes = [scalar(inputs, mx.int32), scalar(results, mx.int32)]
    numbers = [scalar(0.0 if norm is None else norm.eps), scalar(after.limit), *sizes]
    tiles = -(-results // (ROWS // 2 if after.activation else ROWS))
    groups = tiles if split > 1 else -(-tiles // 2)
    threads = SIMD * max(2, split)
    made = kernel(name)(
        [*(padded(array) for array in (x, *operands)), *numbers],
        [((1, results), dtype)],
        (threads * groups, 1, 1),
        (threads, 1, 1),
        T=dtype,
        G=gain.dtype,
        SPLIT=split,
        ACTIVATION=after.activation,
        NORM=norm is not None,
        BIAS=after.bias is not None,
        RESIDUAL=after.residual is not None,
        **storage,
    )
    return made[0]


def _stored(weight: Dense | Quantized, inputs: int) -> tuple[str, list[mx.array], dict[str, Value]]:
    """The kernel for a storage, and what it wants to be told of it."""
    array = weight.weight
    if isinstance(weight, Dense):
        widest = WIDEST // array.dtype.size
        count = widest if inputs % widest == 0 else 1
        return "linear_dense", [array], {"W": array.dtype, "COUNT": count}
    biases = weight.scales if weight.biases is None else weight.biases
    form = format_of(weight)
    assert form is not None
    return (
        "linear",
        [array, weight.scales, biases],
        {"S": weight.scales.dtype, "FORMAT": form, "GROUP": weight.group},
    )
