"""A root mean square norm as a checkpoint names it."""

from ...kernels.rms_norm import Norm
from ..parameters import Parameters


def load(parameters: Parameters, module: str, size: int, eps: float) -> Norm:
    return Norm(parameters.vector(f"{module}.weight", size), eps)
