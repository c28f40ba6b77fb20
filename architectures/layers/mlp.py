"""The feed-forward layer, with a gate or without."""

from dataclasses import dataclass
from functools import partial

import mlx.core as mx

from ...kernels.linear.activation import Activation, activate_plain
from ..config import MlpConfig, ModelConfig
from ..parameters import Parameters
from .linear import Linear, halves
from .norm import AnyNorm


@dataclass(frozen=True, slots=True)
class MLP:
    gate_up: Linear
    down: Linear
    activation: Activation

    @classmethod
    def load(
        cls, parameters: Parameters, config: ModelConfig, own: MlpConfig, name: str
    ) -> "AnyMLP":
        hidden, width = config.hidden_size, own.width
        gate, up = (f"{name}.{own.gate}", width), (f"{name}.{own.up}", width)
        # Read last, so that a wrong width is told of the first projection.
        down = partial(Linear.load, parameters, [(f"{name}.{own.down}", hidden)], width, own.bias)
        if not own.gated:
            return PlainMLP(Linear.load(parameters, [up], hidden, own.bias), down(), own.activation)
        if own.cut is not None:
            gate_up = Linear.load(parameters, [gate, up], hidden, own.bias)
            return SparseMLP(gate_up, down(), own.activation, own.cut)
        return cls(_gate_up(parameters, own, name, hidden), down(), own.activation)

    def __call__(self, x: mx.array, norm: AnyNorm | None, residual: mx.array | None) -> mx.array:
        """The layer of norm(x), plus the residual."""
        return self.down(self.gate_up.gated(x, self.activation, norm=norm), residual)


@dataclass(frozen=True, slots=True)
class PlainMLP:
    up: Linear
    down: Linear
    activation: Activation

    def __call__(self, x: mx.array, norm: AnyNorm | None, residual: mx.array | None) -> mx.array:
        """The layer of norm(x), plus the residual."""
        return self.down(activate_plain(self.up(x, norm=norm), self.activation), residual)


@dataclass(frozen=True, slots=True)
class SparseMLP:
    gate_up: Linear
    down: Linear
    activation: Activation
    cut: float

    def __call__(self, x: mx.array, norm: AnyNorm | None, residual: mx.array | None) -> mx.array:
        """The layer of norm(x), plus the residual."""
        gate, up = mx.split(self.gate_up(x, norm=norm), 2, axis=-1)
        mean = mx.mean(gate, axis=-1, keepdims=True)
        spread = mx.sqrt(mx.mean(mx.square(gate - mean), axis=-1, keepdims=True))
        gate = mx.maximum(gate - (mean + self.cut * spread), 0)
        return self.down(activate_plain(gate, self.activation) * up, residual)


AnyMLP = MLP | PlainMLP | SparseMLP


def _gate_up(parameters: Parameters, own: MlpConfig, name: str, hidden: int) -> Linear:
    """Two modules, or one that has the gate in its first half."""
    joint = f"{name}.gate_up_proj"
    if parameters.has(f"{joint}.weight"):
        gate, up = halves(parameters.matrix(joint, 2 * own.width, hidden))
        biases = [parameters.vector(f"{joint}.bias", 2 * own.width)] if own.bias else []
        return Linear.paired(gate, up, biases)
    modules = [f"{name}.{own.gate}", f"{name}.{own.up}"]
    return Linear.load_pair(parameters, modules, own.width, hidden, own.bias)
