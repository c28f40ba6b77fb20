"""Self-attention over the paged cache: projections, and what lies between them."""

from dataclasses import dataclass

import mlx.core as mx

from ...kernels.attention import attention
from ...kernels.pages import Heads, Layout, Pages
from ...kernels.rms_norm import Norm
from ...kernels.rope import Table
from ..config import ModelConfig
from ..parameters import Parameters
from .linear import Linear


@dataclass(frozen=True, slots=True)
class Attention:
    projections: Linear  # queries, keys and values, one after the other
    output: Linear
    heads: Heads

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
            _heads(parameters, config, name, layer),
        )

    def __call__(
        self, x: mx.array, norm: Norm, table: Table, pages: Pages, layout: Layout
    ) -> tuple[mx.array, Pages]:
        """x plus the attention of norm(x)."""
        qkv = self.projections(x, norm=norm)
        attended, pages = attention(qkv, self.heads, table, pages, layout)
        return self.output(attended, x), pages


def _heads(parameters: Parameters, config: ModelConfig, name: str, layer: int) -> Heads:
    q_norm, k_norm = (
        parameters.vector(f"{name}.{part}_norm.weight", config.head_dim) if config.qk_norm else None
        for part in ("q", "k")
    )
    return Heads(
        config.heads,
        config.kv_heads,
        config.head_dim,
        config.head_dim**-0.5,
        config.head_dim,
        config.windows[layer],
        q_norm=q_norm,
        k_norm=k_norm,
        eps=config.norm_eps,
    )
