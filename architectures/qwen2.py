"""Qwen 2 and 2.5: biases on queries, keys and values alone; windows from a given layer on."""

from .config import Fields, ModelConfig, read_config, read_windows


def configure(fields: Fields) -> ModelConfig:
    return read_config(fields, qkv_bias=True, windows=read_windows(fields))
