"""The gated delta net of Qwen3-Next and Qwen3.5: a state that each token decays and corrects."""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ...kernels.linear.rows import shaped, split
from ...kernels.linear.weight import Dense, Quantized, take_rows
from ...kernels.norm.gated_norm import GatedNorm, gated_norm
from ...kernels.recurrent.conv1d import Convolution, conv1d
from ...kernels.recurrent.delta_gates import delta_gates
from ...kernels.recurrent.gated_delta import Rule, gated_delta
from ...kernels.recurrent.runs import States
from ..config import DeltaConfig, ModelConfig
from ..parameters import Parameters
from ..step import Cache, Residual, Turns
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
        cls, parameters: Parameters, config: ModelConfig, own: DeltaConfig, name: str
    ) -> "DeltaNet":
        hidden, values = config.hidden_size, own.heads * own.value_dim
        rates = -mx.exp(parameters.vector(f"{name}.A_log", own.heads, dtype=mx.float32))
        mx.eval(rates)
        return cls(
            _projections(parameters, own, name, hidden),
            convolution.load(parameters, f"{name}.conv1d", own.channels, own.width, bias=False),
            rates,
            parameters.vector(f"{name}.dt_bias", own.heads, dtype=mx.float32),
            GatedNorm(parameters.vector(f"{name}.norm.weight", own.value_dim), config.norm.eps),
            Linear.load(parameters, [(f"{name}.out_proj", hidden)], values, bias=False),
            own,
        )

    def __call__(
        self, x: mx.array, norm: AnyNorm | None, residual: Residual, turns: Turns, cache: Cache
    ) -> tuple[mx.array, Cache]:
        """The layer of norm(x), plus the residual."""
        runs, own = turns.step.runs, self.sizes
        assert isinstance(cache, States) and runs is not None
        rows, values, keys = x.shape[0], own.heads * own.value_dim, own.key_heads * own.key_dim
        ends = np.cumsum([own.channels, values, own.heads]).tolist()
        qkv, z, correction, decay = split(self.projections(x, norm=norm), ends)
        inputs, state = cache.arrays
        mixed, inputs = conv1d(qkv, self.convolution, inputs, runs)
        q, k, v = split(mixed, [keys, 2 * keys])
        y, state = gated_delta(
            shaped(q, rows, own.key_heads, own.key_dim),
            shaped(k, rows, own.key_heads, own.key_dim),
            shaped(v, rows, own.heads, own.value_dim),
            delta_gates(decay, correction, self.rates, self.offsets),
            state,
            runs,
            Rule(own.key_dim**-0.5),
        )
        y = gated_norm(y, shaped(z, *y.shape), self.norm)
        return self.output(shaped(y, rows, values), residual), States((inputs, state))


def _projections(parameters: Parameters, own: DeltaConfig, name: str, hidden: int) -> Linear:
    """Two modules in the order of key heads (Qwen3-Next), or four (Qwen3.5)."""
    values = own.heads * own.value_dim
    if parameters.has(f"{name}.in_proj_qkvz.weight"):
        joint = parameters.matrix(f"{name}.in_proj_qkvz", own.channels + values, hidden)
        both = parameters.matrix(f"{name}.in_proj_ba", 2 * own.heads, hidden)
        shared = own.heads // own.key_heads
        wide = (own.key_dim, own.key_dim, shared * own.value_dim, shared * own.value_dim)
        return Linear.joined(
            [_by_part(joint, own.key_heads, wide), _by_part(both, own.key_heads, (shared, shared))]
        )
    sizes = {"qkv": own.channels, "z": values, "b": own.heads, "a": own.heads}
    modules = [(f"{name}.in_proj_{part}", size) for part, size in sizes.items()]
    return Linear.load(parameters, modules, hidden, bias=False)


def _by_part(weight: Dense | Quantized, heads: int, sizes: tuple[int, ...]) -> Dense | Quantized:
    """Rows that have each head's parts together, put so that each part's heads are."""
    rows = np.arange(weight.outputs).reshape(heads, sum(sizes))
    parts = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
    return take_rows(weight, np.concatenate([part.reshape(-1) for part in parts]))
