"""Root mean square normalisation over the last axis."""

import mlx.core as mx


def rms_norm(x: mx.array, weight: mx.array, eps: float) -> mx.array:
    return mx.fast.rms_norm(x, weight, eps)


def rms_norm_reference(x: mx.array, weight: mx.array, eps: float) -> mx.array:
    """The definition, in float32."""
    wide = x.astype(mx.float32)
    scale = mx.rsqrt(mx.mean(wide * wide, axis=-1, keepdims=True) + eps)
    return ((wide * scale) * weight.astype(mx.float32)).astype(x.dtype)
