"""LFM2: attention in some layers, short convolutions in the others."""

from collections.abc import Sequence
from typing import Any

from .config import BlockConfig, BlockNames, ConvConfig, MixerConfig, ModelConfig, NormConfig
from .feed_forward_config import FeedForwardConfig, MlpConfig
from .fields import Fields
from .read import FULL, attention, decoder, layer_count, layer_kinds
from .rope import read_rope

CONVOLUTION = "conv"
PLACES = {
    kind: BlockNames(mixer, "feed_forward", "operator_norm", before_feed_forward="ffn_norm")
    for kind, mixer in ((FULL, "self_attn"), (CONVOLUTION, "conv"))
}


def configure(fields: Fields) -> ModelConfig:
    fields.assume(hidden_size=2560, intermediate_size=12_288)
    for name in ("block_dim", "conv_dim", "conv_dim_out"):
        fields.expect(name, fields.integer("hidden_size"))
    fields.expect("block_use_swiglu", True)
    fields.ignore("block_norm_eps", "block_mlp_init_scale", "block_out_init_scale", "theta")
    fields.ignore("block_use_xavier_init", "conv_use_xavier_init", "num_heads", "use_pos_enc")
    mlp = MlpConfig(_width(fields), gate="w1", up="w3", down="w2")
    return hybrid(fields, [mlp] * layer_count(fields))


def hybrid(
    fields: Fields, feed_forwards: Sequence[FeedForwardConfig], **different: Any
) -> ModelConfig:
    """Return the model of blocks of both kinds, one around each of these feed-forward layers."""
    fields.assume(
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=128_000,
        tie_word_embeddings=True,
    )
    fields.expect("hidden_act", "silu")
    size, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    mixers: dict[str, MixerConfig] = {
        FULL: attention(
            fields,
            rope=read_rope(fields, fields.integer("head_dim", size // heads), theta=1e6),
            qk_norm="head",
            output="out_proj",
            query_norm="q_layernorm",
            key_norm="k_layernorm",
        ),
        CONVOLUTION: ConvConfig(
            size,
            fields.integer("conv_L_cache", 3, minimum=2, maximum=8),
            fields.flag("conv_bias", False),
        ),
    }
    blocks = [
        BlockConfig(mixers[kind], feed_forward, PLACES[kind])
        for kind, feed_forward in zip(_kinds(fields), feed_forwards, strict=True)
    ]
    norm = NormConfig(fields.number("norm_eps", 1e-5))
    tied = fields.flag("tie_embedding", fields.flag("tie_word_embeddings", True))
    return decoder(fields, blocks, norm, tied=tied, final_norm="embedding_norm", **different)


def _kinds(fields: Fields) -> list[str]:
    """Read layers' kinds by name, or as older configs by the numbers of those with attention."""
    full = fields.indices("full_attn_idxs") or range(layer_count(fields))
    return layer_kinds(fields, tuple(PLACES), lambda layer: FULL if layer in full else CONVOLUTION)


def _width(fields: Fields) -> int:
    """Read the feed-forward layer's width: adjusted to three matrices, scaled, and rounded up."""
    width = fields.integer("block_ff_dim", fields.integer("intermediate_size"))
    times = fields.number("block_ffn_dim_multiplier", 1.0)
    multiple = fields.integer("block_multiple_of", 256)
    if not fields.flag("block_auto_adjust_ff_dim", True):
        return width
    width = int(times * int(2 * width / 3))
    return -(-width // multiple) * multiple
