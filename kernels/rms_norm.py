"""Root mean square normalisation over the last axis, with the residual sum before it."""

from dataclasses import dataclass
from functools import cache
from typing import overload

import mlx.core as mx

from .cpu.library import FLOAT, INT, NUMBERS, POINTER, Function, address, empty, library, ready
from .cpu.library import optional as optional_address


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """A norm that the operation after it may take into its own work. weight: (width,)."""

    weight: mx.array
    eps: float

    def __call__(self, x: mx.array) -> mx.array:
        """(..., width) alike."""
        return rms_norm(x, self.weight, self.eps)


@overload
def rms_norm(x: mx.array, weight: mx.array, eps: float) -> mx.array: ...
@overload
def rms_norm(
    x: mx.array, weight: mx.array, eps: float, residual: mx.array
) -> tuple[mx.array, mx.array]: ...
def rms_norm(
    x: mx.array, weight: mx.array, eps: float, residual: mx.array | None = None
) -> mx.array | tuple[mx.array, mx.array]:
    """(..., width) alike; with a residual, x + residual and the norm of that."""
    native = norm_native()
    if native is not None and x.dtype == mx.float32 and x.size:
        return norm(native, x, weight, None, eps, residual, centred=False)
    if residual is None:
        return mx.fast.rms_norm(x, weight, eps)
    total = x + residual
    return total, mx.fast.rms_norm(total, weight, eps)


def rms_norm_reference(x: mx.array, weight: mx.array, eps: float) -> mx.array:
    """The definition, in float32."""
    wide = x.astype(mx.float32)
    scale = mx.rsqrt(mx.mean(wide * wide, axis=-1, keepdims=True) + eps)
    return ((wide * scale) * weight.astype(mx.float32)).astype(x.dtype)


def norm(
    native: Function,
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None,
    eps: float,
    residual: mx.array | None,
    centred: bool,
) -> mx.array | tuple[mx.array, mx.array]:
    """Either norm in C; float32 but for weight and bias, which may have 16 bits."""
    x = ready(x)
    residual = None if residual is None else ready(residual)
    mx.eval(weight, bias)
    out, total = empty(*x.shape), None if residual is None else empty(*x.shape)
    native(
        address(x),
        optional_address(residual),
        address(weight),
        NUMBERS[weight.dtype],
        optional_address(bias),
        0 if bias is None else NUMBERS[bias.dtype],
        x.size // x.shape[-1],
        x.shape[-1],
        centred,
        eps,
        None if total is None else address(total),
        address(out),
    )
    return mx.array(out) if total is None else (mx.array(total), mx.array(out))


@cache
def norm_native() -> Function | None:
    found = library()
    arrays = (POINTER, POINTER, POINTER, INT, POINTER, INT)
    types = (*arrays, INT, INT, INT, FLOAT, POINTER, POINTER)
    return None if found is None else found.function("op_norm", *types)
