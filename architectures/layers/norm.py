"""Norms as a checkpoint names them, and which of them the next operation takes along."""

from dataclasses import dataclass, replace

import mlx.core as mx

from ...kernels.norm.layer_norm import LayerNorm, layer_norm
from ...kernels.norm.rms_norm import Norm
from ..config import NormConfig
from ..parameters import Parameters
from .convolution import has_mlx_layout

AnyNorm = Norm | LayerNorm


@dataclass(frozen=True, slots=True, eq=False)
class HeadNorms:
    """A norm of each head by itself, its mean taken away; weight: (heads, head_dim)."""

    weight: mx.array
    eps: float

    def __call__(self, x: mx.array) -> mx.array:
        """Return (rows, heads * head_dim), as x is."""
        each = x.reshape(-1, *self.weight.shape)
        plain = layer_norm(each, mx.ones((each.shape[-1],), x.dtype), None, self.eps)
        return (plain * self.weight).reshape(x.shape)


def resolved(parameters: Parameters, config: NormConfig) -> NormConfig:
    """Return the config for a checkpoint whose conversion may have added 1 to the weights."""
    if config.conversion_mark is None or not has_mlx_layout(parameters, config.conversion_mark):
        return config
    return replace(config, zero_centred=False)


def load(parameters: Parameters, module: str, size: int, config: NormConfig) -> AnyNorm:
    weight = scale(parameters, f"{module}.weight", size, config)
    if config.kind == "root":
        return Norm(weight, config.eps)
    bias = parameters.vector(f"{module}.bias", size) if config.bias else None
    return LayerNorm(weight, bias, config.eps)


def scale(parameters: Parameters, name: str, size: int, config: NormConfig) -> mx.array:
    """Return what a normalised vector is multiplied by; 1 plus a weight stays in float32."""
    if not config.weight:
        return mx.ones((size,), parameters.dtype)
    if not config.zero_centred:
        return parameters.vector(name, size)
    weight = 1 + parameters.vector(name, size, dtype=mx.float32)
    mx.eval(weight)
    return weight


def fused(x: mx.array, norm: AnyNorm | None) -> tuple[mx.array, Norm | None]:
    """Return x and the norm that the next operation is to take; a LayerNorm is done here."""
    if isinstance(norm, LayerNorm):
        return norm(x), None
    return x, norm
