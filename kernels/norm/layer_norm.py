"""Layer normalisation over the last axis."""

from dataclasses import dataclass

import mlx.core as mx

from ..cpu.library import ARRAY, FLOAT, INT, NUMBERS, VALUES, Function, array, output
from ..registry import Operation, in_c


@dataclass(frozen=True, slots=True, eq=False)
class LayerNorm:
    """A norm by itself. weight, bias: (width,)."""

    weight: mx.array
    bias: mx.array | None
    eps: float

    def __call__(self, x: mx.array) -> mx.array:
        """Normalise (..., width)."""
        return layer_norm(x, self.weight, self.bias, self.eps)


@in_c("op_layer_norm", VALUES, ARRAY, INT, ARRAY, *(INT,) * 3, FLOAT, ARRAY)
def _layer_norm_c(
    native: Function, x: mx.array, weight: mx.array, bias: mx.array | None, eps: float
) -> mx.array:
    mx.eval(weight, bias)
    out, width = output(*x.shape), x.shape[-1]
    kinds = (NUMBERS[weight.dtype], 0 if bias is None else NUMBERS[bias.dtype])
    native(x, weight, kinds[0], bias, kinds[1], x.size // width, width, eps, out)
    return array(out)


def _layer_norm_mlx(x: mx.array, weight: mx.array, bias: mx.array | None, eps: float) -> mx.array:
    return mx.fast.layer_norm(x, weight, bias, eps).astype(x.dtype)


def layer_norm_reference(
    x: mx.array, weight: mx.array, bias: mx.array | None, eps: float
) -> mx.array:
    """Compute the definition, in float32."""
    wide = x.astype(mx.float32)
    wide = wide - mx.mean(wide, axis=-1, keepdims=True)
    scale = mx.rsqrt(mx.mean(wide * wide, axis=-1, keepdims=True) + eps)
    y = wide * scale * weight.astype(mx.float32)
    return (y if bias is None else y + bias.astype(mx.float32)).astype(x.dtype)


# (..., width) alike.
layer_norm = Operation("layer_norm", _layer_norm_mlx, layer_norm_reference, _layer_norm_c)
