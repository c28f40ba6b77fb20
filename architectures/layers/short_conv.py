"""LFM2's short convolution, between a gate on its inputs and one on its outputs."""

from dataclasses import dataclass

import mlx.core as mx

from ...kernels.linear.rows import split
from ...kernels.recurrent.conv1d import Convolution, conv1d
from ...kernels.recurrent.runs import States
from ..config import ConvConfig, ModelConfig
from ..parameters import Parameters
from ..step import Cache, Residual, Turns
from . import convolution
from .linear import Linear
from .norm import AnyNorm


@dataclass(frozen=True, slots=True)
class ShortConv:
    projections: Linear  # the inputs' gate, the outputs', the inputs
    convolution: Convolution
    output: Linear

    @classmethod
    def load(
        cls, parameters: Parameters, config: ModelConfig, own: ConvConfig, name: str
    ) -> "ShortConv":
        hidden, size = config.hidden_size, own.channels
        return cls(
            Linear.load(parameters, [(f"{name}.in_proj", 3 * size)], hidden, own.bias),
            convolution.load(parameters, f"{name}.conv", size, own.width, own.bias, silu=False),
            Linear.load(parameters, [(f"{name}.out_proj", hidden)], size, own.bias),
        )

    def __call__(
        self, x: mx.array, norm: AnyNorm | None, residual: Residual, turns: Turns, cache: Cache
    ) -> tuple[mx.array, Cache]:
        """The layer of norm(x), plus the residual."""
        runs = turns.step.runs
        assert isinstance(cache, States) and runs is not None
        size = self.convolution.weight.shape[1]
        before, after, inputs = split(self.projections(x, norm=norm), [size, 2 * size])
        (state,) = cache.arrays
        y, state = conv1d(before * inputs, self.convolution, state, runs)
        return self.output(after * y, residual), States((state,))
