"""Llama, and CodeLlama with it: biases are the checkpoint's choice."""

from .config import ModelConfig
from .fields import Fields
from .read import FULL, alike, attention, decoder, layer_kinds, mlp, rms


def configure(fields: Fields) -> ModelConfig:
    layer_kinds(fields, [FULL], lambda layer: FULL)
    fields.ignore("max_window_layers")  # what is left in Qwen's models that were renamed
    biased = fields.flag("attention_bias", False)
    mixer = attention(fields, bias=biased, output_bias=biased)
    return decoder(
        fields, alike(fields, mixer, mlp(fields, bias=fields.flag("mlp_bias", False))), rms(fields)
    )
