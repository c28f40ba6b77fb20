"""A decoder-only language model: embed, blocks, norm, head, over one ragged step of rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from ..kernels.embedding import embedding
from ..kernels.linear import linear
from ..kernels.pages import Layout, Pages
from ..kernels.rms_norm import Norm
from ..kernels.rope import Table, rope_table
from ..kernels.weight import Weight, pack
from .config import ModelConfig
from .layers.attention import Attention
from .layers.mlp import MLP
from .layers.moe import MoE
from .layers.norm import load as load_norm
from .layers.rope import frequencies
from .parameters import Parameters


@dataclass(frozen=True, slots=True)
class Block:
    attention_norm: Norm
    attention: Attention
    mlp_norm: Norm
    mlp: MLP | MoE

    @classmethod
    def load(cls, parameters: Parameters, config: ModelConfig, layer: int) -> "Block":
        name = f"model.layers.{layer}"
        hidden, eps = config.hidden_size, config.norm_eps
        feed_forward = MoE if config.experts and config.experts.layers[layer] else MLP
        return cls(
            load_norm(parameters, f"{name}.input_layernorm", hidden, eps),
            Attention.load(parameters, config, f"{name}.self_attn", layer),
            load_norm(parameters, f"{name}.post_attention_layernorm", hidden, eps),
            feed_forward.load(parameters, config, f"{name}.mlp"),
        )

    def __call__(
        self, x: mx.array, table: Table, pages: Pages, layout: Layout
    ) -> tuple[mx.array, Pages]:
        x, pages = self.attention(x, self.attention_norm, table, pages, layout)
        return self.mlp(x, self.mlp_norm), pages


@dataclass(frozen=True, slots=True)
class Decoder:
    embed: Weight
    blocks: tuple[Block, ...]
    norm: Norm
    head: Weight
    frequencies: mx.array
    attention_factor: float
    dtype: mx.Dtype  # of activations; what a cache should hold

    @classmethod
    def load(cls, config: ModelConfig, parameters: Parameters) -> "Decoder":
        vocabulary, hidden = config.vocab_size, config.hidden_size
        embed = pack(parameters.matrix("model.embed_tokens", vocabulary, hidden))
        return cls(
            embed,
            tuple(Block.load(parameters, config, layer) for layer in range(config.layers)),
            load_norm(parameters, "model.norm", hidden, config.norm_eps),
            embed if config.tied else pack(parameters.matrix("lm_head", vocabulary, hidden)),
            frequencies(config.rope, config.head_dim),
            config.rope.attention_factor,
            parameters.dtype,
        )

    def __call__(
        self, tokens: mx.array, layout: Layout, cache: Sequence[Pages], rows: mx.array
    ) -> tuple[mx.array, list[Pages]]:
        """tokens: (rows,) int32; gives float32 logits of the wanted `rows`, and the next cache.

        Pages are written in place if the caller drops the old cache before evaluating anything.
        """
        x = embedding(tokens, self.embed, self.dtype)
        table = rope_table(layout.positions, self.frequencies, self.attention_factor)
        written = []
        for block, pages in zip(self.blocks, cache, strict=True):
            x, pages = block(x, table, pages, layout)
            written.append(pages)
        x = x if rows.size == x.shape[0] else x[rows]
        logits = linear(x, self.head, norm=self.norm)
        return logits.astype(mx.float32), written
