"""Self-attention over the paged cache: projections, optional norms of heads, rotary positions."""

from dataclasses import dataclass

import mlx.core as mx

from ...kernels.paged_attention import append, paged_attention
from ...kernels.pages import Layout, Pages
from ...kernels.rope import Table, rope
from ..config import ModelConfig
from ..parameters import Parameters
from .linear import Linear
from .norm import Norm


@dataclass(frozen=True, slots=True)
class Attention:
    projections: Linear  # queries, keys and values, one after the other
    output: Linear
    norms: tuple[Norm, Norm] | None  # of query heads and key heads
    heads: int
    kv_heads: int
    window: int | None

    @classmethod
    def load(
        cls, parameters: Parameters, config: ModelConfig, name: str, layer: int
    ) -> "Attention":
        queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
        return cls(
            Linear.load(
                parameters,
                [(f"{name}.q_proj", queries), (f"{name}.k_proj", keys), (f"{name}.v_proj", keys)],
                config.hidden_size,
                config.qkv_bias,
            ),
            Linear.load(
                parameters, [(f"{name}.o_proj", config.hidden_size)], queries, config.output_bias
            ),
            _norms(parameters, config, name) if config.qk_norm else None,
            config.heads,
            config.kv_heads,
            config.windows[layer],
        )

    def __call__(
        self, x: mx.array, table: Table, pages: Pages, layout: Layout
    ) -> tuple[mx.array, Pages]:
        rows = x.shape[0]
        every = self.projections(x).reshape(rows, self.heads + 2 * self.kv_heads, -1)
        q, k, v = mx.split(every, [self.heads, self.heads + self.kv_heads], axis=1)
        if self.norms is not None:
            q, k = self.norms[0](q), self.norms[1](k)
        q, k = rope(q, table), rope(k, table)
        pages = append(k, v, pages, layout)
        attended = paged_attention(q, pages, layout, q.shape[-1] ** -0.5, self.window)
        return self.output(attended.reshape(rows, -1)), pages


def _norms(parameters: Parameters, config: ModelConfig, name: str) -> tuple[Norm, Norm]:
    q, k = (
        Norm.load(parameters, f"{name}.{part}_norm", config.head_dim, config.norm_eps)
        for part in ("q", "k")
    )
    return q, k
