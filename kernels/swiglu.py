"""The gated activation of a feed-forward layer whose gate and up projections come as one matrix."""

import mlx.core as mx


def swiglu(x: mx.array) -> mx.array:
    """(rows, 2 * width), gate then up, to (rows, width): silu(gate) * up."""
    gate, up = mx.split(x, 2, axis=-1)
    return gate * mx.sigmoid(gate) * up


def swiglu_reference(x: mx.array) -> mx.array:
    """The definition, in float32."""
    gate, up = mx.split(x.astype(mx.float32), 2, axis=-1)
    return (gate / (1 + mx.exp(-gate)) * up).astype(x.dtype)
