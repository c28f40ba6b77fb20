"""The gated delta net of Qwen3-Next and Qwen3.5: a state that each token decays and corrects."""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ...kernels.linear.rows import shaped, split
from ...kernels.linear.weight import take_rows
from ...kernels.norm.gated_norm import GatedNorm, gated_norm
from ...kernels.recurrent.conv1d import Convolution, conv1d
from ...kernels.recurrent.delta_gates import delta_gates
from ...kernels.recurrent.gated_delta import Rule, gated_delta
from ...kernels.recurrent.runs import States
from ..config import DeltaConfig, ModelConfig
from ..parameters import Matrix, Parameters
from ..step import Cache, Residual, StepContext
from . import convolution
from .linear import Linear
from .norm import AnyNorm


@dataclass(frozen=True, slots=True)
class DeltaNet:
    projections: Linear  # queries, keys and values, output gates, corrections, decays
    convolution: Convolution
    rates: mx.array  # (heads,), negative
    offsets: mx.array  # (heads,), of the decays
    norm: GatedNorm
    output: Linear
    sizes: DeltaConfig

    @classmethod
    def load(
        cls, parameters: Parameters, model: ModelConfig, config: DeltaConfig, name: str
    ) -> "DeltaNet":
        hidden, values = model.hidden_size, config.heads * config.value_dim
        rates = -mx.exp(parameters.vector(f"{name}.A_log", config.heads, dtype=mx.float32))
        mx.eval(rates)
        return cls(
            _projections(parameters, config, name, hidden),
            convolution.load(
                parameters, f"{name}.conv1d", config.channels, config.width, bias=False
            ),
            rates,
            parameters.vector(f"{name}.dt_bias", config.heads, dtype=mx.float32),
            GatedNorm(parameters.vector(f"{name}.norm.weight", config.value_dim), model.norm.eps),
            Linear.one(parameters, f"{name}.out_proj", hidden, values),
            config,
        )

    def __call__(
        self, x: mx.array, norm: AnyNorm | None, residual: Residual, step: StepContext, cache: Cache
    ) -> tuple[mx.array, Cache]:
        """Return the layer of norm(x), plus the residual."""
        runs, config = step.rows.runs, self.sizes
        assert isinstance(cache, States) and runs is not None
        rows, keys = x.shape[0], config.key_heads * config.key_dim
        values = config.heads * config.value_dim
        bounds = np.cumsum([config.channels, values, config.heads]).tolist()
        qkv, z, correction, decay = split(self.projections(x, norm=norm), bounds)
        inputs, state = cache.arrays
        mixed, inputs = conv1d(qkv, self.convolution, inputs, runs)
        q, k, v = split(mixed, [keys, 2 * keys])
        y, state = gated_delta(
            shaped(q, rows, config.key_heads, config.key_dim),
            shaped(k, rows, config.key_heads, config.key_dim),
            shaped(v, rows, config.heads, config.value_dim),
            delta_gates(decay, correction, self.rates, self.offsets),
            state,
            runs,
            Rule(config.key_dim**-0.5),
        )
        y = gated_norm(y, shaped(z, *y.shape), self.norm)
        return self.output(shaped(y, rows, values), residual), States((inputs, state))


def _projections(parameters: Parameters, config: DeltaConfig, name: str, hidden: int) -> Linear:
    """Read two modules in the order of key heads (Qwen3-Next), or four (Qwen3.5)."""
    values = config.heads * config.value_dim
    if parameters.has(f"{name}.in_proj_qkvz.weight"):
        joint = parameters.matrix(f"{name}.in_proj_qkvz", config.channels + values, hidden)
        both = parameters.matrix(f"{name}.in_proj_ba", 2 * config.heads, hidden)
        shared = config.heads // config.key_heads
        wide = (*[config.key_dim] * 2, *[shared * config.value_dim] * 2)
        parts = ((joint, wide), (both, (shared, shared)))
        return Linear.joined([_by_part(part, config.key_heads, sizes) for part, sizes in parts])
    sizes = {"qkv": config.channels, "z": values, "b": config.heads, "a": config.heads}
    modules = [(f"{name}.in_proj_{part}", size) for part, size in sizes.items()]
    return Linear.load(parameters, modules, hidden, bias=False)


def _by_part(weight: Matrix, heads: int, sizes: tuple[int, ...]) -> Matrix:
    """Reorder rows that have each head's parts together, so that each part's heads are."""
    rows = np.arange(weight.outputs).reshape(heads, sum(sizes))
    parts = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
    return take_rows(weight, np.concatenate([part.reshape(-1) for part in parts]))
