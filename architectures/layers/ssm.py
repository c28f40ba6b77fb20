"""Mamba 2's layer: a short convolution, a selective scan, and a norm that has the gate in it."""

from dataclasses import dataclass

import mlx.core as mx

from ...kernels.linear.rows import shaped, split
from ...kernels.norm.gated_norm import GatedNorm, gated_norm
from ...kernels.recurrent.conv1d import Convolution, conv1d
from ...kernels.recurrent.runs import States
from ...kernels.recurrent.ssm_scan import Scan, ssm_scan
from ..config import ModelConfig, SsmConfig
from ..parameters import Parameters
from ..step import Cache, Residual, StepContext
from . import convolution
from .linear import Linear
from .norm import AnyNorm


@dataclass(frozen=True, slots=True)
class Ssm:
    projections: Linear  # gates, channels of the convolution, time steps
    convolution: Convolution
    scan: Scan
    norm: GatedNorm
    output: Linear
    sizes: SsmConfig

    @classmethod
    def load(
        cls, parameters: Parameters, model: ModelConfig, config: SsmConfig, name: str
    ) -> "Ssm":
        def each(part: str) -> mx.array:
            return parameters.vector(f"{name}.{part}", config.heads, dtype=mx.float32)

        hidden = model.hidden_size
        width = config.inner + config.channels + config.heads
        rates = -mx.exp(each("A_log"))
        mx.eval(rates)
        return cls(
            Linear.one(parameters, f"{name}.in_proj", width, hidden, config.bias),
            convolution.load(
                parameters, f"{name}.conv1d", config.channels, config.width, config.conv_bias
            ),
            Scan(each("dt_bias"), rates, each("D"), config.min_step, config.max_step),
            GatedNorm(
                parameters.vector(f"{name}.norm.weight", config.inner),
                model.norm.eps,
                config.norm_groups,
                gate_first=True,
            ),
            Linear.one(parameters, f"{name}.out_proj", hidden, config.inner, config.bias),
            config,
        )

    def __call__(
        self, x: mx.array, norm: AnyNorm | None, residual: Residual, step: StepContext, cache: Cache
    ) -> tuple[mx.array, Cache]:
        """Return the layer of norm(x), plus the residual."""
        runs, config = step.rows.runs, self.sizes
        assert isinstance(cache, States) and runs is not None
        bounds = [config.inner, config.inner + config.channels]
        gates, mixed, steps = split(self.projections(x, norm=norm), bounds)
        inputs, state = cache.arrays
        mixed, inputs = conv1d(mixed, self.convolution, inputs, runs)
        values, b, c = split(mixed, [config.inner, config.inner + config.groups * config.state])
        y, state = ssm_scan(
            shaped(values, -1, config.heads, config.head_dim),
            shaped(b, -1, config.groups, config.state),
            shaped(c, -1, config.groups, config.state),
            steps,
            self.scan,
            state,
            runs,
        )
        y = gated_norm(shaped(y, *gates.shape), gates, self.norm)
        return self.output(y, residual), States((inputs, state))
