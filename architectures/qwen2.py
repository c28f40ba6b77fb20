"""Qwen 2 and 2.5: biases on queries, keys and values alone; windows from some layer on."""

from .config import BlockConfig, ModelConfig
from .fields import Fields
from .read import attention, decoder, mlp, read_windows, rms


def configure(fields: Fields) -> ModelConfig:
    fields.assume(max_position_embeddings=32_768)
    fields.ignore("use_mrope")  # for images
    blocks = [
        BlockConfig(attention(fields, window=window, bias=True), mlp(fields))
        for window in read_windows(fields)
    ]
    return decoder(fields, blocks, rms(fields))
