"""The weight of a short convolution over each channel, in either order of a checkpoint."""

import mlx.core as mx

from ..parameters import Parameters


def load(parameters: Parameters, module: str, channels: int, width: int) -> mx.array:
    """(width, channels) float32, the last row for the token itself."""
    name = f"{module}.weight"
    shape = (channels, width, 1) if is_turned(parameters, name) else (channels, 1, width)
    weight = parameters.vector(name, *shape, dtype=mx.float32).reshape(channels, width)
    weight = mx.contiguous(weight.T)
    mx.eval(weight)
    return weight


def is_turned(parameters: Parameters, name: str) -> bool:
    """Whether it lies as MLX wants it, (channels, width, 1), not (channels, 1, width)."""
    return parameters.shape(name)[2:] == (1,)
