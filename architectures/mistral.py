"""Mistral and Ministral: a window of 4096 tokens on the layers that have one, unless it is null."""

from .config import BlockConfig, ModelConfig
from .fields import Fields
from .read import FULL, SLIDING, attention, decoder, layer_kinds, mlp, read_window, rms


def configure(fields: Fields) -> ModelConfig:
    """Read a Mistral, which transformers takes for a Ministral if it has layer_types."""
    fields.assume(num_key_value_heads=8, max_position_embeddings=131_072)
    off = "sliding_window" in fields.raw and "sliding_window" not in fields
    usual, allowed = (FULL, [FULL]) if off else (SLIDING, [FULL, SLIDING])
    window = read_window(fields, default=4096)
    blocks = [
        BlockConfig(attention(fields, window=window if kind == SLIDING else None), mlp(fields))
        for kind in layer_kinds(fields, allowed, lambda layer: usual)
    ]
    return decoder(fields, blocks, rms(fields))
