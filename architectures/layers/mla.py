"""Multi-head latent attention in its absorbed form: a row's keys and values stay one latent."""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ...kernels.attention.latent_attention import latent_attention
from ...kernels.attention.pages import Heads, Pages
from ...kernels.linear.head_linear import head_linear
from ...kernels.linear.rows import split
from ...kernels.linear.weight import Dense, Quantized, Weight, take_rows, widen
from ...kernels.moe.moe import pack_experts
from ...kernels.norm.rms_norm import Norm
from ..config import LatentConfig, ModelConfig
from ..parameters import Matrix, Parameters
from ..step import Cache, Residual, StepContext
from .linear import Linear
from .norm import AnyNorm


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Attention within the latent space: queries are led into it, and the result back to values."""

    inputs: Linear  # queries or their latent, then keys' and values' latent and its rotary part
    query_norm: Norm | None
    queries: Linear | None  # from their latent
    absorb: Weight  # (heads * rank, nope_dim)
    expand: Weight  # (heads * value_dim, rank)
    output: Linear
    heads: Heads
    group: int
    rope: int

    @classmethod
    def load(
        cls, parameters: Parameters, model: ModelConfig, config: LatentConfig, name: str
    ) -> "LatentAttention":
        absorb, expand = _split(parameters, config, name)
        rank, dim = config.query_rank, config.nope_dim + config.rope_dim
        values = config.heads * config.value_dim
        return cls(
            _inputs(parameters, model, config, name),
            Norm(parameters.vector(f"{name}.q_a_layernorm.weight", rank), config.eps)
            if rank
            else None,
            Linear.one(parameters, f"{name}.q_b_proj", config.heads * dim, rank) if rank else None,
            pack_experts(absorb, config.heads),
            pack_experts(expand, config.heads),
            Linear.one(parameters, f"{name}.o_proj", model.hidden_size, values, config.bias),
            _heads(parameters, config, name),
            model.windows.index(None),
            model.ropes.index(config.rope),
        )

    def __call__(
        self, x: mx.array, norm: AnyNorm | None, residual: Residual, step: StepContext, cache: Cache
    ) -> tuple[mx.array, Cache]:
        """Return the attention of norm(x), plus the residual."""
        assert isinstance(cache, Pages)
        heads = self.heads
        inputs = self.inputs(x, norm=norm)
        q, latent = split(inputs, [inputs.shape[1] - heads.head_dim])
        if self.queries is not None:
            q = self.queries(q, norm=self.query_norm)
        rest = heads.head_dim - heads.value_dim
        q = head_linear(q, self.absorb, heads.heads, rest)
        table, layout = step.table(self.rope), step.rows.layouts[self.group]
        attended, cache = latent_attention(q, latent, heads, table, cache, layout)
        values = head_linear(attended, self.expand, heads.heads)
        return self.output(values, residual), cache


def _inputs(parameters: Parameters, model: ModelConfig, config: LatentConfig, name: str) -> Linear:
    """Join the projections of the layer's input; queries without a latent have no bias."""
    hidden = model.hidden_size
    latent = (f"{name}.kv_a_proj_with_mqa", config.rank + config.rope_dim)
    if config.query_rank:
        modules = [(f"{name}.q_a_proj", config.query_rank), latent]
        return Linear.load(parameters, modules, hidden, config.bias)
    queries = (f"{name}.q_proj", config.heads * (config.nope_dim + config.rope_dim))
    weights = [parameters.matrix(module, rows, hidden) for module, rows in (queries, latent)]
    if not config.bias:
        return Linear.joined(weights)
    bias = parameters.vector(f"{latent[0]}.bias", latent[1])
    return Linear.joined(weights, [mx.zeros((queries[1],), bias.dtype), bias])


def _split(parameters: Parameters, config: LatentConfig, name: str) -> tuple[Matrix, Matrix]:
    """Return the ways into the latent space and out of it, which most checkpoints have joined."""
    heads, nope, value, rank = config.heads, config.nope_dim, config.value_dim, config.rank
    absorb = parameters.stack(f"{name}.embed_q", heads, rank, nope)
    expand = parameters.stack(f"{name}.unembed_out", heads, value, rank)
    if absorb is not None and expand is not None:
        return absorb, expand
    both = parameters.matrix(f"{name}.kv_b_proj", heads * (nope + value), rank)
    rows = np.arange(heads * (nope + value)).reshape(heads, nope + value)
    keys, values = (take_rows(both, part.reshape(-1)) for part in np.split(rows, [nope], axis=1))
    return _transposed(keys, heads), values


def _transposed(keys: Matrix, heads: int) -> Dense:
    """Return (heads * rank, nope_dim) of (heads * nope_dim, rank), dense: codes lie in groups."""
    wide = keys.weight if isinstance(keys, Dense) else widen(keys)
    if isinstance(keys, Quantized) and not keys.exact:
        wide = wide.astype(mx.float16)
    out = mx.unflatten(wide, 0, (heads, -1)).swapaxes(1, 2)
    out = mx.contiguous(out.reshape(-1, out.shape[-1]))
    mx.eval(out)
    return Dense(out)


def _heads(parameters: Parameters, config: LatentConfig, name: str) -> Heads:
    """Describe the one key head for all; its first dimensions, the value, do not rotate."""
    norm = parameters.vector(f"{name}.kv_a_layernorm.weight", config.rank, dtype=mx.float32)
    return Heads(
        config.heads,
        1,
        config.rank + config.rope_dim,
        config.scale,
        config.rank,
        k_norm=norm,
        eps=config.eps,
        interleaved=config.interleaved,
        rope_offset=config.rank,
    )
