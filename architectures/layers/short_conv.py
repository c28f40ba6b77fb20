"""LFM2's short convolution, between a gate on its inputs and one on its outputs."""

from dataclasses import dataclass

import mlx.core as mx

from ...kernels.linear.rows import multiply, split
from ...kernels.recurrent.conv1d import Convolution, conv1d
from ...kernels.recurrent.runs import States
from ..config import ConvConfig, ModelConfig
from ..parameters import Parameters
from ..step import Cache, Residual, StepContext
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
        cls, parameters: Parameters, model: ModelConfig, config: ConvConfig, name: str
    ) -> "ShortConv":
        hidden, size = model.hidden_size, config.channels
        return cls(
            Linear.one(parameters, f"{name}.in_proj", 3 * size, hidden, config.bias),
            convolution.load(
                parameters, f"{name}.conv", size, config.width, config.bias, silu=False
            ),
            Linear.one(parameters, f"{name}.out_proj", hidden, size, config.bias),
        )

    def __call__(
        self, x: mx.array, norm: AnyNorm | None, residual: Residual, step: StepContext, cache: Cache
    ) -> tuple[mx.array, Cache]:
        """Return the layer of norm(x), plus the residual."""
        runs = step.rows.runs
        assert isinstance(cache, States) and runs is not None
        size = self.convolution.weight.shape[1]
        input_gate, output_gate, inputs = split(self.projections(x, norm=norm), [size, 2 * size])
        (state,) = cache.arrays
        y, state = conv1d(multiply(input_gate, inputs), self.convolution, state, runs)
        return self.output(multiply(output_gate, y), residual), States((state,))
