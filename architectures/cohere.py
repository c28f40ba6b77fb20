"""Command R: both parts of a block in parallel, interleaved rotary pairs, scaled logits."""

from collections.abc import Sequence
from typing import Any

from .config import PARALLEL, AttentionConfig, BlockConfig, ModelConfig, NormConfig
from .fields import Fields
from .read import attention, biases, decoder, layer_count, mlp
from .storage import MlxLm

MLX_LM = MlxLm(dense=r".*\.[qk]_norm")  # norms of each head, stored as matrices


def configure(fields: Fields) -> ModelConfig:
    fields.assume(rope_theta=500_000.0)
    fields.ignore("model_max_length")  # what the tokenizer allows
    norm = "centred" if fields.flag("use_qk_norm", False) else None
    return in_parallel(fields, [mixer(fields, qk_norm=norm)] * layer_count(fields))


def mixer(fields: Fields, **different: Any) -> AttentionConfig:
    """Read attention with what all of Cohere's models have of it."""
    fields.assume(tie_word_embeddings=True, max_position_embeddings=8192)
    return attention(fields, interleaved=True, **biases(fields), **different)


def in_parallel(fields: Fields, mixers: Sequence[AttentionConfig]) -> ModelConfig:
    """Return the model of these mixers, each with a feed-forward layer of the same input."""
    blocks = [BlockConfig(each, mlp(fields), PARALLEL) for each in mixers]
    norm = NormConfig(fields.number("layer_norm_eps", 1e-5), "layer")
    scale = fields.number("logit_scale", 0.0625)
    return decoder(fields, blocks, norm, logit_scale=scale, mlx_lm=MLX_LM)
