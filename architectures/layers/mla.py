"""Multi-head latent attention in its absorbed form: a row's keys and values stay one latent."""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ...kernels.attention.latent_attention import latent_attention
from ...kernels.attention.pages import Heads, Pages
from ...kernels.linear.head_linear import head_linear
from ...kernels.linear.rows import shaped, split
from ...kernels.linear.weight import Dense, Quantized, Weight, take_rows, widen
from ...kernels.moe.moe import pack_experts
from ...kernels.norm.rms_norm import Norm
from ..config import LatentConfig, ModelConfig
from ..parameters import Parameters
from ..step import Cache, Residual, Turns
from .linear import Linear
from .norm import AnyNorm

Stored = Dense | Quantized


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Queries are taken into the latent space, what they attend to is taken back to values."""

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
        cls, parameters: Parameters, config: ModelConfig, own: LatentConfig, name: str
    ) -> "LatentAttention":
        absorb, expand = _split(parameters, own, name)
        rank, dim = own.query_rank, own.nope_dim + own.rope_dim
        return cls(
            _inputs(parameters, config, own, name),
            Norm(parameters.vector(f"{name}.q_a_layernorm.weight", rank), own.eps)
            if rank
            else None,
            Linear.load(parameters, [(f"{name}.q_b_proj", own.heads * dim)], rank, False)
            if rank
            else None,
            pack_experts(absorb, own.heads),
            pack_experts(expand, own.heads),
            Linear.load(
                parameters,
                [(f"{name}.o_proj", config.hidden_size)],
                own.heads * own.value_dim,
                own.bias,
            ),
            _heads(parameters, own, name),
            config.windows.index(None),
            config.ropes.index(own.rope),
        )

    def __call__(
        self, x: mx.array, norm: AnyNorm | None, residual: Residual, turns: Turns, cache: Cache
    ) -> tuple[mx.array, Cache]:
        """The attention of norm(x), plus the residual."""
        assert isinstance(cache, Pages)
        of, rows = self.heads, x.shape[0]
        both = self.inputs(x, norm=norm)
        q, latent = split(both, [both.shape[1] - of.head_dim])
        if self.queries is not None:
            q = self.queries(q, norm=self.query_norm)
        rest = of.head_dim - of.value_dim
        q = shaped(head_linear(shaped(q, rows, of.heads, -1), self.absorb, rest), rows, -1)
        table, layout = turns.table(self.rope), turns.step.layouts[self.group]
        found, cache = latent_attention(q, latent, of, table, cache, layout)
        values = head_linear(shaped(found, rows, of.heads, of.value_dim), self.expand)
        return self.output(shaped(values, rows, -1), residual), cache


def _inputs(parameters: Parameters, config: ModelConfig, own: LatentConfig, name: str) -> Linear:
    """Queries that have no latent have no bias either."""
    hidden, latent = config.hidden_size, (f"{name}.kv_a_proj_with_mqa", own.rank + own.rope_dim)
    if own.query_rank:
        modules = [(f"{name}.q_a_proj", own.query_rank), latent]
        return Linear.load(parameters, modules, hidden, own.bias)
    queries = (f"{name}.q_proj", own.heads * (own.nope_dim + own.rope_dim))
    weights = [parameters.matrix(module, rows, hidden) for module, rows in (queries, latent)]
    if not own.bias:
        return Linear.joined(weights)
    bias = parameters.vector(f"{latent[0]}.bias", latent[1])
    return Linear.joined(weights, [mx.zeros((queries[1],), bias.dtype), bias])


def _split(parameters: Parameters, own: LatentConfig, name: str) -> tuple[Stored, Stored]:
    """What takes queries into the latent space, and values out of it: apart, or as published."""
    heads, nope, value, rank = own.heads, own.nope_dim, own.value_dim, own.rank
    absorb = parameters.stack(f"{name}.embed_q", heads, rank, nope)
    expand = parameters.stack(f"{name}.unembed_out", heads, value, rank)
    if absorb is not None and expand is not None:
        return absorb, expand
    both = parameters.matrix(f"{name}.kv_b_proj", heads * (nope + value), rank)
    rows = np.arange(heads * (nope + value)).reshape(heads, nope + value)
    keys, values = (take_rows(both, part.reshape(-1)) for part in np.split(rows, [nope], axis=1))
    return _turned(keys, heads), values


def _turned(keys: Stored, heads: int) -> Dense:
    """(heads * nope_dim, rank) to (heads * rank, nope_dim); groups of codes cannot be turned."""
    wide = keys.weight if isinstance(keys, Dense) else widen(keys)
    if isinstance(keys, Quantized) and not keys.exact:
        wide = wide.astype(mx.float16)
    turned = mx.unflatten(wide, 0, (heads, -1)).swapaxes(1, 2)
    turned = mx.contiguous(turned.reshape(-1, turned.shape[-1]))
    mx.eval(turned)
    return Dense(turned)


def _heads(parameters: Parameters, own: LatentConfig, name: str) -> Heads:
    """One key head for all; its first dimensions, which are the value, do not turn."""
    norm = parameters.vector(f"{name}.kv_a_layernorm.weight", own.rank, dtype=mx.float32)
    return Heads(
        own.heads,
        1,
        own.rank + own.rope_dim,
        own.scale,
        own.rank,
        k_norm=norm,
        eps=own.eps,
        interleaved=own.interleaved,
        rope_offset=own.rank,
    )
