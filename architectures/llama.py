"""Llama, and CodeLlama with it: biases are the checkpoint's choice."""

from .config import ModelConfig
from .fields import Fields
from .read import FULL, alike, attention, biases, decoder, layer_kinds, mlp, rms


def configure(fields: Fields) -> ModelConfig:
    layer_kinds(fields, [FULL], lambda layer: FULL)
    fields.ignore("max_window_layers")  # what is left in Qwen's models that were renamed
    mixer = attention(fields, **biases(fields))
    feed_forward = mlp(fields, bias=fields.flag("mlp_bias", False))
    return decoder(fields, alike(fields, mixer, feed_forward), rms(fields))
