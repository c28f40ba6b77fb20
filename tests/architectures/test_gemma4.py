"""Gemma 4 against transformers, and quantized against mlx_lm."""

from .parity import Parity
from .tiny import BASE, Case, Config

LAYERS = ["sliding_attention", "full_attention"]
ROPES = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    "full_attention": {
        "rope_type": "proportional",
        "partial_rotary_factor": 0.5,
        "rope_theta": 1000.0,
    },
}
TEXT: Config = {
    key: value for key, value in BASE.items() if key not in ("rope_theta", "hidden_act")
}
TEXT |= {
    "model_type": "gemma4_text",
    "tie_word_embeddings": True,
    "head_dim": 16,
    "global_head_dim": 32,
    "layer_types": LAYERS,
    "sliding_window": 9,
    "rope_parameters": ROPES,
    "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": 80,
    "final_logit_softcapping": 4.0,
}
SMALL = TEXT | {
    "hidden_size_per_layer_input": 32,
    "num_hidden_layers": 5,
    "layer_types": LAYERS * 2 + LAYERS[1:],
    "num_key_value_heads": 1,
    "num_kv_shared_layers": 2,
    "use_double_wide_mlp": True,
}
MIXED = TEXT | {
    "attention_k_eq_v": True,
    "num_global_key_value_heads": 1,
    "enable_moe_block": True,
    "num_kv_shared_layers": 0,
    "num_experts": 8,
    "top_k_experts": 2,
    "moe_intermediate_size": 32,
}
SCORES = {
    "rms_norm_eps": 0.1,
    "sliding_window": 12,
    "hidden_activation": "silu",
    "final_logit_softcapping": None,
    "rope_parameters.sliding_attention.rope_theta": 40.0,
    "rope_parameters.full_attention.rope_theta": 400.0,
    "rope_parameters.full_attention.partial_rotary_factor": 0.25,
}
VISION = {
    "model_type": "gemma4_vision",
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "patch_size": 4,
    "position_embedding_size": 16,
}
AFFINE = {"group_size": 32, "bits": 4}


class TestGemma4(Parity):
    family = "gemma4"
    cases = {
        "per_layer_lending": Case(SMALL, SCORES),
        "experts_keys_as_values": Case(MIXED, SCORES | {"top_k_experts": 3}),
        "odd_biased": Case(
            TEXT
            | {
                "hidden_size": 48,
                "num_attention_heads": 3,
                "num_key_value_heads": 1,
                "attention_bias": True,
                "tie_word_embeddings": False,
                "final_logit_softcapping": None,
            },
            {"rope_parameters.full_attention.factor": 4.0},
        ),
        "with_images": Case(
            {"model_type": "gemma4", "text_config": SMALL, "vision_config": VISION},
            {"text_config.sliding_window": 12},
        ),
        "affine_per_layer": Case(SMALL | {"quantization": AFFINE}, source="mlx_lm"),
        "affine_experts": Case(
            {
                "model_type": "gemma4",
                "vocab_size": 80,
                "text_config": MIXED,
                "quantization": AFFINE
                | {"language_model.model.layers.1.router.proj": {"group_size": 64, "bits": 8}},
            },
            source="mlx_lm",
        ),
    }
