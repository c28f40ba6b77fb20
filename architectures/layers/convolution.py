"""A short convolution over each channel, in either order of a checkpoint."""

import mlx.core as mx

from ...kernels.recurrent.conv1d import Convolution
from ..parameters import Parameters


def load(
    parameters: Parameters, module: str, channels: int, width: int, bias: bool, silu: bool = True
) -> Convolution:
    """Return a module's convolution, in float32."""
    name = f"{module}.weight"
    shape = (channels, width, 1) if has_mlx_layout(parameters, name) else (channels, 1, width)
    weight = parameters.vector(name, *shape, dtype=mx.float32).reshape(channels, width)
    weight = mx.contiguous(weight.T)
    mx.eval(weight)
    added = parameters.vector(f"{module}.bias", channels, dtype=mx.float32) if bias else None
    return Convolution(weight, added, silu)


def has_mlx_layout(parameters: Parameters, name: str) -> bool:
    """Return whether a weight is stored (channels, width, 1), not (channels, 1, width)."""
    return parameters.shape(name)[2:] == (1,)
