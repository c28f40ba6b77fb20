"""The gated feed-forward layer."""

from dataclasses import dataclass

import mlx.core as mx

from ...kernels.rms_norm import Norm
from ..config import ModelConfig
from ..parameters import Parameters
from .linear import Linear


@dataclass(frozen=True, slots=True)
class MLP:
    gate_up: Linear
    down: Linear

    @classmethod
    def load(cls, parameters: Parameters, config: ModelConfig, name: str) -> "MLP":
        hidden, width = config.hidden_size, config.intermediate_size
        gate_up = [f"{name}.gate_proj", f"{name}.up_proj"]
        return cls(
            Linear.load_pair(parameters, gate_up, width, hidden, config.mlp_bias),
            Linear.load(parameters, [(f"{name}.down_proj", hidden)], width, config.mlp_bias),
        )

    def __call__(self, x: mx.array, norm: Norm) -> mx.array:
        """x plus the layer of norm(x)."""
        return self.down(self.gate_up.gated(x, norm=norm), x)
