"""Mistral: no biases, and one sliding window for all layers where there is one."""

from .config import Fields, ModelConfig, layer_count, read_config


def configure(fields: Fields) -> ModelConfig:
    layers = layer_count(fields)
    unset = "sliding_window" not in fields.raw
    # transformers takes 4096 where the field is left out, and no window where it is null.
    windowed = unset or "sliding_window" in fields
    window = fields.integer("sliding_window", 4096) if windowed else None
    kinds = fields.raw.get("layer_types")
    uniform = ["full_attention" if window is None else "sliding_attention"] * layers
    if kinds is not None and kinds != uniform:
        raise fields.refuse("layer_types", f"all {uniform[0]}, as sliding_window says")
    return read_config(fields, windows=(window,) * layers)
