"""Seed-OSS: Llama with a width of heads in the config, and biases on queries, keys and values."""

from .config import ModelConfig
from .fields import Fields
from .read import alike, attention, decoder, mlp, rms


def configure(fields: Fields) -> ModelConfig:
    fields.assume(num_key_value_heads=8, head_dim=128, max_position_embeddings=524_288)
    mixer = attention(
        fields,
        bias=fields.flag("attention_bias", True),
        output_bias=fields.flag("attention_out_bias", False),
    )
    feed_forward = mlp(fields, bias=fields.flag("mlp_bias", False))
    return decoder(fields, alike(fields, mixer, feed_forward), rms(fields))
