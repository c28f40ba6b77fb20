"""Qwen 3: queries and keys are normalised head by head, whose width is the config's choice."""

from .config import Fields, ModelConfig, read_config, read_windows


def configure(fields: Fields) -> ModelConfig:
    biased = fields.flag("attention_bias", False)
    return read_config(
        fields,
        head_dim=fields.integer("head_dim", 128),  # transformers' default, whatever hidden_size is
        qk_norm=True,
        qkv_bias=biased,
        output_bias=biased,
        windows=read_windows(fields),
    )
