"""Gemma 2: scores and logits are bounded, every other layer has a window, norms on both sides."""

from collections.abc import Sequence
from typing import Any

from .config import SANDWICH, AttentionConfig, ModelConfig
from .feed_forward_config import MlpConfig
from .fields import Fields
from .gemma import TANH, assume, gemma, mixer
from .read import FULL, SLIDING, read_activation, read_window, windowed


def configure(fields: Fields) -> ModelConfig:
    assume(
        fields,
        num_key_value_heads=4,
        sliding_window=4096,
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
    )
    fields.expect("use_bidirectional_attention", False)
    windows = {SLIDING: read_window(fields), FULL: None}
    softcap = fields.optional("attn_logit_softcapping")
    kinds = windowed(fields, 2)
    mixers = [scaled(fields, softcap=softcap, window=windows[kind]) for kind in kinds]
    return sandwich(fields, mixers)


def scaled(fields: Fields, **different: Any) -> AttentionConfig:
    """Read attention whose scores are scaled as the config says, whatever the size of a head."""
    return mixer(fields, scale=fields.number("query_pre_attn_scalar", 256.0) ** -0.5, **different)


def sandwich(fields: Fields, mixers: Sequence[AttentionConfig], **different: Any) -> ModelConfig:
    """Return the model of these mixers, with norms on both sides of each part."""
    fields.ignore("hidden_act", "sliding_window_size")  # of older configs, next to the true ones
    width = fields.integer("intermediate_size")
    feed_forward = MlpConfig(width, read_activation(fields, TANH, "hidden_activation"))
    softcap = fields.optional("final_logit_softcapping")
    return gemma(fields, mixers, feed_forward, SANDWICH, logit_softcap=softcap, **different)
