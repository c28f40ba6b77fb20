"""Command R: both parts of a block side by side, turned by neighbours, with logits scaled."""

from collections.abc import Sequence
from typing import Any

from .config import PARALLEL, AttentionConfig, BlockConfig, ModelConfig, NormConfig
from .fields import Fields
from .read import attention, decoder, layer_count, mlp
from .storage import MlxLm

MLX_LM = MlxLm(dense=r".*\.[qk]_norm")  # norms of each head, stored as matrices


def configure(fields: Fields) -> ModelConfig:
    fields.assume(rope_theta=500_000.0)
    fields.ignore("model_max_length")  # what the tokenizer allows
    norm = "centred" if fields.flag("use_qk_norm", False) else None
    return side_by_side(fields, [mixer(fields, qk_norm=norm)] * layer_count(fields))


def mixer(fields: Fields, **different: Any) -> AttentionConfig:
    fields.assume(tie_word_embeddings=True, max_position_embeddings=8192)
    biased = fields.flag("attention_bias", False)
    return attention(fields, interleaved=True, bias=biased, output_bias=biased, **different)


def side_by_side(fields: Fields, mixers: Sequence[AttentionConfig]) -> ModelConfig:
    """The model around its mixers, each with a feed-forward layer of the same input."""
    blocks = [BlockConfig(each, mlp(fields), PARALLEL) for each in mixers]
    norm = NormConfig(fields.number("layer_norm_eps", 1e-5), "layer")
    scale = fields.number("logit_scale", 0.0625)
    return decoder(fields, blocks, norm, logit_scale=scale, mlx_lm=MLX_LM)
