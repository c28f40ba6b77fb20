"""The norm of a state's output and its gate, in the order of Mamba 2 or of Qwen3-Next."""

from dataclasses import dataclass

import mlx.core as mx

from ..cpu.library import ARRAY, FLOAT, INT, NUMBERS, VALUES, Function, array, output
from ..registry import Operation, in_c
from .rms_norm import rms_norm


@dataclass(frozen=True, slots=True, eq=False)
class GatedNorm:
    """A norm over each of `groups` equal parts of y * silu(gate). weight: (width,).

    Unless `gate_first`, silu(gate) multiplies the norm of y instead.
    """

    weight: mx.array
    eps: float
    groups: int = 1
    gate_first: bool = False


@in_c("op_gated_norm", VALUES, VALUES, ARRAY, *(INT,) * 5, FLOAT, ARRAY)
def _gated_norm_c(native: Function, y: mx.array, gate: mx.array, norm: GatedNorm) -> mx.array:
    weight, groups = norm.weight, norm.groups
    assert y.shape == gate.shape and y.shape[-1:] == weight.shape and len(weight) % groups == 0
    mx.eval(weight)
    out, kind, width = output(*y.shape), NUMBERS[weight.dtype], len(weight)
    native(y, gate, weight, kind, y.size // width, width, groups, norm.gate_first, norm.eps, out)
    return array(out)


def gated_norm_reference(y: mx.array, gate: mx.array, norm: GatedNorm) -> mx.array:
    """Compute the definition, in float32."""
    wide, gate = y.astype(mx.float32), gate.astype(mx.float32)
    silu = gate / (1 + mx.exp(-gate))
    wide = wide * silu if norm.gate_first else wide
    parts = wide.reshape(*y.shape[:-1], norm.groups, y.shape[-1] // norm.groups)
    parts = parts * mx.rsqrt(mx.mean(parts * parts, axis=-1, keepdims=True) + norm.eps)
    normed = parts.reshape(y.shape) * norm.weight.astype(mx.float32)
    return (normed if norm.gate_first else normed * silu).astype(y.dtype)


def _gated_norm_mlx(y: mx.array, gate: mx.array, norm: GatedNorm) -> mx.array:
    """Run `gated_norm` by MLX's operations in float32, for 16 bits would be rounded four times."""
    weight, groups = norm.weight, norm.groups
    assert y.shape == gate.shape and y.shape[-1:] == weight.shape and len(weight) % groups == 0
    wide, gate = y.astype(mx.float32), gate.astype(mx.float32)
    silu = gate * mx.sigmoid(gate)
    wide = wide * silu if norm.gate_first else wide
    if groups == 1:
        normed = rms_norm(wide, weight, norm.eps)
    else:
        size = len(weight) // groups
        parts = rms_norm(wide.reshape(*y.shape[:-1], groups, size), mx.ones((size,)), norm.eps)
        normed = parts.reshape(y.shape) * norm.weight.astype(mx.float32)
    return (normed if norm.gate_first else normed * silu).astype(y.dtype)


# (..., width) like y.
gated_norm = Operation("gated_norm", _gated_norm_mlx, gated_norm_reference, _gated_norm_c)
