"""The feed-forward layer, with a gate or without."""

from dataclasses import dataclass
from functools import partial

import mlx.core as mx

from ...kernels.linear.activation import Activation, activate_plain
from ..config import ModelConfig
from ..feed_forward_config import MlpConfig
from ..parameters import Parameters
from .linear import Linear
from .norm import AnyNorm


@dataclass(frozen=True, slots=True)
class MLP:
    gate_up: Linear
    down: Linear
    activation: Activation

    @classmethod
    def load(
        cls, parameters: Parameters, model: ModelConfig, config: MlpConfig, name: str
    ) -> "AnyMLP":
        hidden, width, bias = model.hidden_size, config.width, config.bias
        gate, up = (f"{name}.{config.gate}", width), (f"{name}.{config.up}", width)
        # Read last, so that a wrong width is told of the first projection.
        down = partial(Linear.one, parameters, f"{name}.{config.down}", hidden, width, bias)
        if not config.gated:
            return PlainMLP(Linear.one(parameters, *up, hidden, bias), down(), config.activation)
        if config.cut is not None:
            gate_up = Linear.load(parameters, [gate, up], hidden, bias)
            return SparseMLP(gate_up, down(), config.activation, config.cut)
        return cls(_gate_up(parameters, config, name, hidden), down(), config.activation)

    def __call__(self, x: mx.array, norm: AnyNorm | None, residual: mx.array | None) -> mx.array:
        """Return the layer of norm(x), plus the residual."""
        return self.down(self.gate_up.gated(x, self.activation, norm=norm), residual)


@dataclass(frozen=True, slots=True)
class PlainMLP:
    up: Linear
    down: Linear
    activation: Activation

    def __call__(self, x: mx.array, norm: AnyNorm | None, residual: mx.array | None) -> mx.array:
        """Return the layer of norm(x), plus the residual."""
        return self.down(activate_plain(self.up(x, norm=norm), self.activation), residual)


@dataclass(frozen=True, slots=True)
class SparseMLP:
    gate_up: Linear
    down: Linear
    activation: Activation
    cut: float

    def __call__(self, x: mx.array, norm: AnyNorm | None, residual: mx.array | None) -> mx.array:
        """Return the layer of norm(x), plus the residual."""
        gate, up = mx.split(self.gate_up(x, norm=norm), 2, axis=-1)
        mean = mx.mean(gate, axis=-1, keepdims=True)
        spread = mx.sqrt(mx.mean(mx.square(gate - mean), axis=-1, keepdims=True))
        gate = mx.maximum(gate - (mean + self.cut * spread), 0)
        return self.down(activate_plain(gate, self.activation) * up, residual)


AnyMLP = MLP | PlainMLP | SparseMLP


def _gate_up(parameters: Parameters, config: MlpConfig, name: str, hidden: int) -> Linear:
    modules = [f"{name}.gate_up_proj"]
    if not parameters.has(f"{modules[0]}.weight"):
        modules = [f"{name}.{config.gate}", f"{name}.{config.up}"]
    return Linear.load_pair(parameters, modules, config.width, hidden, config.bias)
