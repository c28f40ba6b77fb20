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
from ..step import Cache, Residual, Turns
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
    def load(cls, parameters: Parameters, config: ModelConfig, own: SsmConfig, name: str) -> "Ssm":
        def each(part: str) -> mx.array:
            return parameters.vector(f"{name}.{part}", own.heads, dtype=mx.float32)

        hidden = config.hidden_size
        inputs = [(f"{name}.in_proj", own.inner + own.channels + own.heads)]
        rates = -mx.exp(each("A_log"))
        mx.eval(rates)
        return cls(
            Linear.load(parameters, inputs, hidden, own.bias),
            convolution.load(parameters, f"{name}.conv1d", own.channels, own.width, own.conv_bias),
            Scan(each("dt_bias"), rates, each("D"), own.least, own.most),
            GatedNorm(
                parameters.vector(f"{name}.norm.weight", own.inner),
                config.norm.eps,
                own.norm_groups,
                gate_first=True,
            ),
            Linear.load(parameters, [(f"{name}.out_proj", hidden)], own.inner, own.bias),
            own,
        )

    def __call__(
        self, x: mx.array, norm: AnyNorm | None, residual: Residual, turns: Turns, cache: Cache
    ) -> tuple[mx.array, Cache]:
        """The layer of norm(x), plus the residual."""
        runs, own = turns.step.runs, self.sizes
        assert isinstance(cache, States) and runs is not None
        ends = [own.inner, own.inner + own.channels]
        gates, mixed, steps = split(self.projections(x, norm=norm), ends)
        inputs, state = cache.arrays
        mixed, inputs = conv1d(mixed, self.convolution, inputs, runs)
        values, b, c = split(mixed, [own.inner, own.inner + own.groups * own.state])
        y, state = ssm_scan(
            shaped(values, -1, own.heads, own.head_dim),
            shaped(b, -1, own.groups, own.state),
            shaped(c, -1, own.groups, own.state),
            steps,
            self.scan,
            state,
            runs,
        )
        y = gated_norm(shaped(y, *gates.shape), gates, self.norm)
        return self.output(y, residual), States((inputs, state))
