"""A linear layer's product, for dense and quantized weights; rows do not affect one another."""

import ctypes
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
from .rms_norm import Norm, rms_norm_reference
from .weight import ALIGNED, Matrix, Packed, Quantized, Weight, matrix, widen

# Elements of a 16-bit matrix that are widened at a time: 1 MB in float32. MLX allocates ahead of
# its CPU thread, by some 17 blocks.
WIDENED = 1 << 18


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
    x = x if norm is None else norm(x)
    native = _native()
    if native is not None and x.size and x.dtype == mx.float32:
        return _compiled(native, x, weight, bias, residual, 0, 0)
    y = product(x, weight)
    y = y if bias is None else y + bias
    return y if residual is None else y + residual


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
    x = x if norm is None else norm(x)
    native = _native()
    if native is None or not x.size or x.dtype != mx.float32 or weight.outputs % (2 * ALIGNED):
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


def product(x: mx.array, weight: Weight) -> mx.array:
    """The product by MLX's own operations."""
    if x.shape[0] == 0:  # MLX 0.32's quantized product on a CPU divides by the number of rows
        return mx.zeros((0, weight.outputs), x.dtype)
    assert not isinstance(weight, Packed)
    if isinstance(weight, Quantized):
        return mx.quantized_matmul(
            x,
            weight.weight,
            weight.scales,
            weight.biases,
            transpose=True,
            group_size=weight.group,
            bits=weight.bits,
            mode=weight.mode,
        ).astype(x.dtype)
    if weight.weight.dtype == x.dtype:
        return x @ weight.weight.T
    return _widened(x, weight.weight)


@cache
def _native() -> Function | None:
    found = library()
    types = (ctypes.POINTER(Matrix), POINTER, INT, POINTER, POINTER, INT, FLOAT, POINTER)
    return None if found is None else found.function("op_linear", *types)


def _widened(x: mx.array, weight: mx.array) -> mx.array:
    """Block by block, each waiting for the one before, so that only one is ever widened."""
    block = max(1, WIDENED // weight.shape[1])
    parts: list[mx.array] = []
    for start in range(0, weight.shape[0], block):
        rows = weight[start : start + block]
        if parts:
            (rows,) = mx.depends([rows], [parts[-1]])
        parts.append(x @ rows.astype(x.dtype).T)
    return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=-1)
