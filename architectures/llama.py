"""Llama: biases are the checkpoint's choice."""

from .config import Fields, ModelConfig, layer_count, read_config


def configure(fields: Fields) -> ModelConfig:
    biased = fields.flag("attention_bias", False)
    kinds = fields.raw.get("layer_types")
    if kinds is not None and kinds != ["full_attention"] * layer_count(fields):
        raise fields.refuse("layer_types", "all full_attention")
    return read_config(
        fields,
        qkv_bias=biased,
        output_bias=biased,
        mlp_bias=fields.flag("mlp_bias", False),
    )
