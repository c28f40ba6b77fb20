"""Layer normalisation over the last axis."""

from dataclasses import dataclass

import mlx.core as mx

from ..cpu.library import ARRAY, FLOAT, INT, VALUES, Function
from ..registry import Operation, in_c
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


@in_c("op_norm", VALUES, ARRAY, INT, ARRAY, *(INT,) * 4, FLOAT, ARRAY)
def _layer_norm_c(
    native: Function, x: mx.array, weight: mx.array, bias: mx.array | None, eps: float
) -> mx.array:
    return norm_c(native, x, weight, bias, eps, True)


def _layer_norm_mlx(x: mx.array, weight: mx.array, bias: mx.array | None, eps: float) -> mx.array:
    return mx.fast.layer_norm(x, weight, bias, eps).astype(x.dtype)


def layer_norm_reference(
    x: mx.array, weight: mx.array, bias: mx.array | None, eps: float
) -> mx.array:
    """The definition, in float32."""
    wide = x.astype(mx.float32)
    wide = wide - mx.mean(wide, axis=-1, keepdims=True)
    scale = mx.rsqrt(mx.mean(wide * wide, axis=-1, keepdims=True) + eps)
    y = wide * scale * weight.astype(mx.float32)
    return (y if bias is None else y + bias.astype(mx.float32)).astype(x.dtype)


# (..., width) alike.
layer_norm = Operation("layer_norm", _layer_norm_mlx, layer_norm_reference, _layer_norm_c)
