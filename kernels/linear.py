"""A linear layer's product, for dense and quantized weights; rows do not affect one another."""

import ctypes
from collections.abc import Iterator
from functools import cache

import mlx.core as mx

from .activation import ACTIVATIONS, Activation, activate, activate_reference
from .cpu.library import (
    FLOAT,
    INT,
    POINTER,
    Function,
    address,
    array,
    library,
    output,
    ready,
)
from .cpu.library import optional as optional_address
from .linear_metal import gated_linear_metal, linear_metal
from .linear_rows import MOST
from .metal.device import device
from .product import gated_linear_composed, linear_composed
from .registry import Key, Operation, bucket
from .rms_norm import Norm, rms_norm_reference
from .weight import Matrix, Packed, Quantized, Weight, is_whole_panels, matrix, storage, widen

WIDENED = 1 << 24  # values of a weight that is worth restoring to verify a kernel


def linear(
    x: mx.array,
    weight: Weight,
    bias: mx.array | None = None,
    residual: mx.array | None = None,
    norm: Norm | None = None,
) -> mx.array:
    """(rows, inputs) to (rows, outputs), in the dtype of x: x times weight + bias + residual.

    With a norm, the product is of norm(x).
    """
    if device() is not None:
        few = 0 < x.shape[0] <= MOST
        return (LINEAR if few else linear_composed)(x, weight, bias, residual, norm)
    x = x if norm is None else norm(x)
    native = _native()
    if native is not None and x.size and x.dtype == mx.float32:
        return _compiled(native, x, weight, bias, residual, 0, 0)
    return linear_composed(x, weight, bias, residual)


def gated_linear(
    x: mx.array,
    weight: Weight,
    bias: mx.array | None = None,
    activation: Activation = "silu",
    limit: float = 7.0,
    norm: Norm | None = None,
) -> mx.array:
    """(rows, inputs) to (rows, outputs / 2): gate and up in one product, and what joins them.

    The weight's first half is the gate; `limit` is of `swiglu_clamped` alone. With a norm, the
    product is of norm(x).
    """
    if device() is not None:
        few = 0 < x.shape[0] <= MOST
        chosen = GATED_LINEAR if few else gated_linear_composed
        return chosen(x, weight, bias, activation, limit, norm)
    x = x if norm is None else norm(x)
    native, halves = _native(), is_whole_panels(weight.outputs // 2)
    if native is None or not x.size or x.dtype != mx.float32 or not halves:
        return activate(linear(x, weight, bias), activation, limit)
    return _compiled(native, x, weight, bias, None, ACTIVATIONS[activation], limit)


def _is_paired(weight: Weight) -> bool:
    return isinstance(weight, Packed) and bool(weight.matrix.paired)


def _compiled(
    native: Function,
    x: mx.array,
    weight: Weight,
    bias: mx.array | None,
    residual: mx.array | None,
    activation: int,
    limit: float,
) -> mx.array:
    assert activation or not _is_paired(weight)
    x = ready(x)
    bias = None if bias is None else ready(bias)
    residual = None if residual is None else ready(residual)
    out = output(x.shape[0], weight.outputs // 2 if activation else weight.outputs)
    native(
        matrix(weight),
        address(x),
        x.shape[0],
        optional_address(bias),
        optional_address(residual),
        activation,
        limit,
        address(out),
    )
    return array(out)


def linear_reference(
    x: mx.array,
    weight: Weight,
    bias: mx.array | None = None,
    residual: mx.array | None = None,
    norm: Norm | None = None,
) -> mx.array:
    """The definition, in float32."""
    wide = x.astype(mx.float32)
    wide = wide if norm is None else rms_norm_reference(wide, norm.weight, norm.eps)
    y = wide @ widen(weight).T
    y = y if bias is None else y + bias
    return (y if residual is None else y + residual).astype(x.dtype)


def gated_linear_reference(
    x: mx.array,
    weight: Weight,
    bias: mx.array | None = None,
    activation: Activation = "silu",
    limit: float = 7.0,
    norm: Norm | None = None,
) -> mx.array:
    """The definition, in float32."""
    return activate_reference(linear_reference(x, weight, bias, norm=norm), activation, limit)


@cache
def _native() -> Function | None:
    found = library()
    types = (ctypes.POINTER(Matrix), POINTER, INT, POINTER, POINTER, INT, FLOAT, POINTER)
    return None if found is None else found.function("op_linear", *types)


def _key(x: mx.array, weight: Weight, *around: object) -> Key:
    """Of the rest only which parts there are: their sizes follow from these."""
    parts = "".join(str(int(part is not None)) for part in around if not isinstance(part, float))
    shape = (bucket(x.shape[0]), weight.outputs, x.shape[1])
    return (*shape, *storage(weight), x.dtype, parts)


def _edges(dtype: mx.Dtype) -> Iterator[tuple[mx.array, Weight]]:
    """Few outputs, none of them in whole tiles, and few inputs."""
    for rows, outputs, inputs in ((1, 7, 64), (1, 9, 128), (3, 10, 64)):
        yield mx.random.normal((rows, inputs)).astype(dtype), _random(outputs, inputs, dtype)


def _random(outputs: int, inputs: int, dtype: mx.Dtype) -> Weight:
    values = mx.random.normal((outputs, inputs)).astype(dtype)
    words, scales, biases = mx.quantize(values, group_size=64, bits=4)
    return Quantized(words, scales, biases, 64, 4)


def _expected(
    x: mx.array,
    weight: Weight,
    bias: mx.array | None = None,
    residual: mx.array | None = None,
    norm: Norm | None = None,
) -> mx.array:
    """The definition; of large weights MLX's product in float32, which restores no matrix."""
    small = weight.outputs * x.shape[1] <= WIDENED
    return (linear_reference if small else linear_composed)(
        x.astype(mx.float32), weight, bias, residual, norm
    )


def _gated_expected(
    x: mx.array,
    weight: Weight,
    bias: mx.array | None = None,
    activation: Activation = "silu",
    limit: float = 7.0,
    norm: Norm | None = None,
) -> mx.array:
    """The same of a gated layer."""
    return activate_reference(_expected(x, weight, bias, None, norm), activation, limit)


FILES = ("linear.metal", "linear_dense.metal", "linear_rows.metal")
LINEAR = Operation("linear", FILES, linear_metal, linear_composed, _expected, _key, _edges)
GATED_LINEAR = Operation(
    "gated_linear",
    FILES,
    gated_linear_metal,
    gated_linear_composed,
    _gated_expected,
    _key,
    lambda dtype: (
        (x, _random(2 * weight.outputs, x.shape[1], dtype)) for x, weight in _edges(dtype)
    ),
)
