"""Layer normalisation over the last axis, with the residual sum before it."""

from dataclasses import dataclass
from typing import overload

import mlx.core as mx

from .registry import c_library
from .rms_norm import norm_c


@dataclass(frozen=True, slots=True, eq=False)
class LayerNorm:
    """A norm by itself. weight, bias: (width,)."""

    weight: mx.array
    bias: mx.array | None
    eps: float

    def __call__(self, x: mx.array) -> mx.array:
        """(..., width) alike."""
        return layer_norm(x, self.weight, self.bias, self.eps)


@overload
def layer_norm(x: mx.array, weight: mx.array, bias: mx.array | None, eps: float) -> mx.array: ...
@overload
def layer_norm(
    x: mx.array, weight: mx.array, bias: mx.array | None, eps: float, residual: mx.array
) -> tuple[mx.array, mx.array]: ...
def layer_norm(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None,
    eps: float,
    residual: mx.array | None = None,
) -> mx.array | tuple[mx.array, mx.array]:
    """(..., width) alike; with a residual, x + residual and the norm of that."""
    loaded = c_library()
    if loaded is not None and x.dtype == mx.float32 and x.size:
        return norm_c(loaded, x, weight, eps, residual, bias, is_centred=True)
    if residual is None:
        return mx.fast.layer_norm(x, weight, bias, eps).astype(x.dtype)
    total = x + residual
    return total, mx.fast.layer_norm(total, weight, bias, eps).astype(total.dtype)


def layer_norm_reference(
    x: mx.array, weight: mx.array, bias: mx.array | None, eps: float
) -> mx.array:
    """The definition, in float32."""
    wide = x.astype(mx.float32)
    wide = wide - mx.mean(wide, axis=-1, keepdims=True)
    scale = mx.rsqrt(mx.mean(wide * wide, axis=-1, keepdims=True) + eps)
    y = wide * scale * weight.astype(mx.float32)
    return (y if bias is None else y + bias.astype(mx.float32)).astype(x.dtype)
