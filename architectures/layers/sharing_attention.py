"""Attention whose values are normalised, and whose keys and values later blocks reuse."""

from dataclasses import dataclass

import mlx.core as mx

from ...kernels.attention.attention import attention
from ...kernels.attention.pages import Heads, Pages
from ...kernels.linear.rows import join, shaped, split
from ...kernels.norm.rms_norm import Norm
from ..config import ModelConfig, SharingConfig
from ..parameters import Parameters
from ..step import Cache, Residual, StepContext
from .linear import Linear
from .norm import AnyNorm, scale


@dataclass(frozen=True, slots=True)
class SharingAttention:
    """Attention that may reuse an earlier block's keys and values, and that block's cache.

    It writes them into the same pages again, bit by bit alike, so that the kernels, which append
    and attend in one call, need not know of it.
    """

    projections: Linear  # queries, then keys and values, as far as it has them
    output: Linear
    heads: Heads
    group: int
    rope: int
    norms: tuple[Norm, Norm] | None  # of keys and of values; None: it reuses both
    source: int | None
    keys_as_values: bool

    @classmethod
    def load(
        cls, parameters: Parameters, model: ModelConfig, config: SharingConfig, name: str
    ) -> "SharingAttention":
        queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
        modules = [(f"{name}.q_proj", queries)]
        if not config.reuses_kv:
            modules.append((f"{name}.k_proj", keys))
            modules += [] if config.keys_as_values else [(f"{name}.v_proj", keys)]
        return cls(
            Linear.load(parameters, modules, model.hidden_size, config.bias),
            Linear.one(parameters, f"{name}.o_proj", model.hidden_size, queries, config.bias),
            _heads(parameters, model, config, name),
            model.windows.index(config.window),
            model.ropes.index(config.rope),
            None if config.reuses_kv else _norms(parameters, model, config, name),
            config.source,
            config.keys_as_values,
        )

    def __call__(
        self, x: mx.array, norm: AnyNorm | None, residual: Residual, step: StepContext, cache: Cache
    ) -> tuple[mx.array, Cache]:
        """Return the attention of norm(x), plus the residual; the cache may be another block's."""
        assert isinstance(cache, Pages)
        q, k, v = self._split(self.projections(x, norm=norm))
        if self.norms is None:
            assert self.source is not None
            kv = step.shared_kv[self.source]
        else:
            kv = self._normed(k, v, *self.norms)
            if self.source is not None:
                step.shared_kv[self.source] = kv
        qkv = join([q, kv])
        layout = step.rows.layouts[self.group]
        attended, cache = attention(qkv, self.heads, step.table(self.rope), cache, layout)
        return self.output(attended, residual), cache

    def _split(self, projected: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        queries = self.heads.heads * self.heads.head_dim
        keys = queries + self.heads.kv_heads * self.heads.head_dim
        q, k, v = split(projected, [queries, keys])
        return q, k, k if self.keys_as_values else v

    def _normed(self, k: mx.array, v: mx.array, k_norm: Norm, v_norm: Norm) -> mx.array:
        """Return (rows, keys and values), each head normalised by itself."""
        each, flat = (-1, self.heads.kv_heads, self.heads.head_dim), (k.shape[0], -1)
        parts = [k_norm(shaped(k, *each)), v_norm(shaped(v, *each))]
        return join([shaped(part, *flat) for part in parts])


def _heads(parameters: Parameters, model: ModelConfig, config: SharingConfig, name: str) -> Heads:
    """Describe heads: scores are not scaled, and keys come normalised, as they are shared."""
    return Heads(
        config.heads,
        config.kv_heads,
        config.head_dim,
        1.0,
        config.head_dim,
        config.window,
        q_norm=scale(parameters, f"{name}.q_norm.weight", config.head_dim, model.norm),
        eps=model.norm.eps,
    )


def _norms(
    parameters: Parameters, model: ModelConfig, config: SharingConfig, name: str
) -> tuple[Norm, Norm]:
    weight = scale(parameters, f"{name}.k_norm.weight", config.head_dim, model.norm)
    plain = mx.ones((config.head_dim,), parameters.dtype)
    mx.eval(plain)
    return Norm(weight, model.norm.eps), Norm(plain, model.norm.eps)
