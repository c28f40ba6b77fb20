"""Gemma: embeddings are scaled up to hidden states, norms are stored around 0, the head is tied."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .config import PRE, AttentionConfig, BlockConfig, BlockNames, ModelConfig
from .feed_forward_config import MlpConfig
from .fields import Fields
from .read import attention, biases, decoder, layer_count, mlp, rms

TANH = "gelu_pytorch_tanh"


def configure(fields: Fields) -> ModelConfig:
    assume(fields, num_key_value_heads=16)
    fields.expect("hidden_activation", TANH)
    fields.expect("use_bidirectional_attention", False)
    feed_forward = mlp(fields, TANH)
    if feed_forward.activation == "gelu":  # the first configs say so, and mean the tanh form
        feed_forward = replace(feed_forward, activation="gelu_tanh")
    return gemma(fields, [mixer(fields)] * layer_count(fields), feed_forward)


def assume(fields: Fields, **different: Any) -> None:
    """Assume transformers' defaults, which published configs rely on."""
    sizes = {"head_dim": 256, "max_position_embeddings": 8192, "tie_word_embeddings": True}
    fields.assume(**(sizes | different))


def mixer(fields: Fields, **different: Any) -> AttentionConfig:
    return attention(fields, **biases(fields), **different)


def gemma(
    fields: Fields,
    mixers: Sequence[AttentionConfig],
    feed_forward: MlpConfig,
    names: BlockNames = PRE,
    **different: Any,
) -> ModelConfig:
    """Return the model of these mixers, which all have the same feed-forward layer."""
    blocks = [BlockConfig(each, feed_forward, names) for each in mixers]
    size = fields.integer("hidden_size")
    norm = rms(fields, zero_centred=True)
    return decoder(fields, blocks, norm, embed_scale=size**0.5, **different)
