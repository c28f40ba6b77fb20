"""A root mean square norm with its weight."""

from dataclasses import dataclass

import mlx.core as mx

from ...kernels.rms_norm import rms_norm
from ..parameters import Parameters


@dataclass(frozen=True, slots=True)
class Norm:
    weight: mx.array
    eps: float

    @classmethod
    def load(cls, parameters: Parameters, module: str, size: int, eps: float) -> "Norm":
        return cls(parameters.vector(f"{module}.weight", size), eps)

    def __call__(self, x: mx.array) -> mx.array:
        return rms_norm(x, self.weight, self.eps)
