"""SmolLM 3: Llama, of whose layers some know no positions."""

from dataclasses import replace

from .config import BlockConfig, ModelConfig
from .fields import Fields
from .read import (
    FULL,
    SLIDING,
    attention,
    biases,
    decoder,
    layer_count,
    layer_kinds,
    mlp,
    read_window,
    rms,
)


def configure(fields: Fields) -> ModelConfig:
    fields.assume(
        num_key_value_heads=4,
        rope_theta=2e6,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
    )
    fields.ignore("is_llama_config", "max_window_layers", "sliding_window")
    mixer = attention(fields, **biases(fields))
    feed_forward = mlp(fields, bias=fields.flag("mlp_bias", False))
    blocks = [
        BlockConfig(replace(mixer, rope=mixer.rope if roped else None, window=window), feed_forward)
        for roped, window in zip(_with_rope(fields), _windows(fields), strict=True)
    ]
    return decoder(fields, blocks, rms(fields))


def _with_rope(fields: Fields) -> list[bool]:
    """Return which layers have positions; the config's list may be longer than its layers."""
    layers, name = layer_count(fields), "no_rope_layers"
    every = fields.integer("no_rope_layer_interval", 4)
    if name not in fields:
        return [(layer + 1) % every != 0 for layer in range(layers)]
    listed = fields.get(name)
    known = isinstance(listed, list) and all(each in (0, 1) for each in listed)
    if not known or len(listed) < layers:
        raise fields.refuse(name, f"{layers} numbers, 1 for a layer that has positions, else 0")
    return [bool(each) for each in listed[:layers]]


def _windows(fields: Fields) -> list[int | None]:
    """Return each layer's window: of those without positions, if the config lists no kinds."""
    slides = fields.flag("use_sliding_window", False) and "sliding_window" in fields
    if not slides:
        layer_kinds(fields, [FULL], lambda layer: FULL)
        return [None] * layer_count(fields)
    with_rope, window = _with_rope(fields), read_window(fields)
    kinds = layer_kinds(fields, (FULL, SLIDING), lambda i: FULL if with_rope[i] else SLIDING)
    return [window if kind == SLIDING else None for kind in kinds]
