"""Gemma 3: layers with a window have a rope of their own, and every sixth layer sees all."""

from collections.abc import Callable
from typing import Any

from .config import ModelConfig, Rope
from .fields import Fields
from .gemma import assume
from .gemma2 import sandwich, scaled
from .read import FULL, SLIDING, read_window, text_side, windowed
from .rope import read_local, read_rope

BARE = ((r"^(embed_tokens|layers|norm)\.", r"model.\1."),)  # of a model saved without its head


def configure(fields: Fields) -> ModelConfig:
    if fields.get("model_type") == "gemma3":
        return with_senses(fields, text)
    return text(fields, renames=BARE)


def text(fields: Fields, **different: Any) -> ModelConfig:
    _assume(fields)
    bidirectional = fields.flag("use_bidirectional_attention", False)
    # Tokens on both sides share the window that the config gives.
    window = fields.integer("sliding_window") // 2 + 1 if bidirectional else read_window(fields)
    windows, rope_of = {SLIDING: window, FULL: None}, ropes(fields)
    fields.ignore("_sliding_window_pattern")
    kinds = windowed(fields, fields.integer("sliding_window_pattern", 6))
    mixers = [
        scaled(fields, qk_norm="head", rope=rope_of[kind], window=windows[kind]) for kind in kinds
    ]
    return sandwich(fields, mixers, bidirectional=bidirectional, **different)


def _assume(fields: Fields) -> None:
    """Assume what a config within another leaves out."""
    assume(
        fields,
        vocab_size=262_208,
        hidden_size=2304,
        intermediate_size=9216,
        num_hidden_layers=26,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=131_072,
        sliding_window=4096,
    )


def ropes(fields: Fields) -> dict[str, Rope]:
    """Read the rope of each kind of layer."""
    dim, theta = fields.integer("head_dim"), fields.number("rope_local_base_freq", 10_000.0)
    return {
        SLIDING: read_local(fields, dim, theta, SLIDING),
        FULL: read_rope(fields, dim, layers=FULL, theta=1e6),
    }


def with_senses(fields: Fields, text: Callable[..., ModelConfig], **different: Any) -> ModelConfig:
    """Return the text side of a model that sees or hears too, which has a config within it."""
    inner = fields.table("text_config")
    if "vocab_size" in fields:
        inner.assume(vocab_size=fields.integer("vocab_size"))
    fields.ignore("audio_config", "hidden_size", "ignore_index")
    fields.ignore("vision_soft_tokens_per_image", "audio_soft_tokens_per_image")
    tied = fields.flag("tie_word_embeddings", inner.flag("tie_word_embeddings", True))
    return text(inner, **(text_side(fields, tied) | different))
