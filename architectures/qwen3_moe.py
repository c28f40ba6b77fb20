"""Qwen 3 with experts: all layers have them but those that the config names."""

from .config import Fields, Mixture, ModelConfig, layer_count, read_config, read_windows


def configure(fields: Fields) -> ModelConfig:
    biased = fields.flag("attention_bias", False)
    return read_config(
        fields,
        head_dim=fields.integer(
            "head_dim", fields.integer("hidden_size") // fields.integer("num_attention_heads")
        ),
        qk_norm=True,
        qkv_bias=biased,
        output_bias=biased,
        windows=read_windows(fields),
        experts=mixture(fields),
    )


def mixture(fields: Fields) -> Mixture:
    count = fields.integer("num_experts", 128)
    step = fields.integer("decoder_sparse_step", 1)
    dense = fields.raw.get("mlp_only_layers") or []
    layers = range(layer_count(fields))
    return Mixture(
        count,
        fields.integer("num_experts_per_tok", 8, most=count),
        fields.integer("moe_intermediate_size", 768),
        fields.flag("norm_topk_prob", False),
        tuple(layer not in dense and (layer + 1) % step == 0 for layer in layers),
    )
