"""Attention whose values are normalised, and whose keys and values later blocks take as theirs."""

from dataclasses import dataclass

import mlx.core as mx

from ...kernels.attention.attention import attention
from ...kernels.attention.pages import Heads, Pages
from ...kernels.linear.rows import join, shaped, split
from ...kernels.norm.rms_norm import Norm
from ..config import ModelConfig, SharingConfig
from ..parameters import Parameters
from ..step import Cache, Residual, Turns
from .linear import Linear
from .norm import AnyNorm, scale


@dataclass(frozen=True, slots=True)
class SharingAttention:
    """Whoever borrows writes the lender's keys and values into its pages again, bit by bit alike.

    So the kernels, which append and attend in one call, need not know of it.
    """

    projections: Linear  # queries, then keys and values, as far as it has them
    output: Linear
    heads: Heads
    group: int
    rope: int
    norms: tuple[Norm, Norm] | None  # of keys and of values; None: it borrows
    source: int | None
    keys_as_values: bool

    @classmethod
    def load(
        cls, parameters: Parameters, config: ModelConfig, own: SharingConfig, name: str
    ) -> "SharingAttention":
        queries, keys = own.heads * own.head_dim, own.kv_heads * own.head_dim
        modules = [(f"{name}.q_proj", queries)]
        if not own.borrows:
            modules.append((f"{name}.k_proj", keys))
            modules += [] if own.keys_as_values else [(f"{name}.v_proj", keys)]
        output = [(f"{name}.o_proj", config.hidden_size)]
        return cls(
            Linear.load(parameters, modules, config.hidden_size, own.bias),
            Linear.load(parameters, output, queries, own.bias),
            _heads(parameters, config, own, name),
            config.windows.index(own.window),
            config.ropes.index(own.rope),
            None if own.borrows else _norms(parameters, config, own, name),
            own.source,
            own.keys_as_values,
        )

    def __call__(
        self, x: mx.array, norm: AnyNorm | None, residual: Residual, turns: Turns, cache: Cache
    ) -> tuple[mx.array, Cache]:
        """The attention of norm(x), plus the residual; the cache is the lender's, if it borrows."""
        assert isinstance(cache, Pages)
        q, k, v = self._split(self.projections(x, norm=norm))
        if self.norms is None:
            assert self.source is not None
            kept = turns.lent[self.source]
        else:
            kept = self._normed(k, v, *self.norms)
            if self.source is not None:
                turns.lent[self.source] = kept
        qkv = join([q, kept])
        layout = turns.step.layouts[self.group]
        attended, cache = attention(qkv, self.heads, turns.table(self.rope), cache, layout)
        return self.output(attended, residual), cache

    def _split(self, projected: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        queries = self.heads.heads * self.heads.head_dim
        keys = queries + self.heads.kv_heads * self.heads.head_dim
        q, k, v = split(projected, [queries, keys])
        return q, k, k if self.keys_as_values else v

    def _normed(self, k: mx.array, v: mx.array, k_norm: Norm, v_norm: Norm) -> mx.array:
        """(rows, keys and values), each head by itself."""
        each, flat = (-1, self.heads.kv_heads, self.heads.head_dim), (k.shape[0], -1)
        parts = [k_norm(shaped(k, *each)), v_norm(shaped(v, *each))]
        return join([shaped(part, *flat) for part in parts])


def _heads(parameters: Parameters, config: ModelConfig, own: SharingConfig, name: str) -> Heads:
    """Scores are not scaled; keys come normalised, since borrowers have no norm of them."""
    return Heads(
        own.heads,
        own.kv_heads,
        own.head_dim,
        1.0,
        own.head_dim,
        own.window,
        q_norm=scale(parameters, f"{name}.q_norm.weight", own.head_dim, config.norm),
        eps=config.norm.eps,
    )


def _norms(
    parameters: Parameters, config: ModelConfig, own: SharingConfig, name: str
) -> tuple[Norm, Norm]:
    weight = scale(parameters, f"{name}.k_norm.weight", own.head_dim, config.norm)
    plain = mx.ones((own.head_dim,), parameters.dtype)
    mx.eval(plain)
    return Norm(weight, config.norm.eps), Norm(plain, config.norm.eps)
