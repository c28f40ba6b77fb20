"""Gemma 1, 2 and 3 against transformers, and quantized against mlx_lm."""

from .parity import Parity
from .tiny import BASE, YARN, Case

AFFINE = {"group_size": 32, "bits": 4, "model.layers.0.self_attn.v_proj": False}
GEMMA = BASE | {
    "model_type": "gemma",
    "hidden_act": "gelu_pytorch_tanh",
    "head_dim": 16,
    "tie_word_embeddings": True,
}
ODD = {"hidden_size": 48, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 32}
LAYERS = ["full_attention", "sliding_attention"]
GEMMA2 = GEMMA | {
    "model_type": "gemma2",
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 24,
    "sliding_window": 9,
    "attn_logit_softcapping": 2.0,
    "final_logit_softcapping": 4.0,
}
GEMMA3 = GEMMA | {
    "model_type": "gemma3_text",
    "hidden_activation": "gelu_pytorch_tanh",
    "num_hidden_layers": 3,
    "query_pre_attn_scalar": 24,
    "sliding_window": 9,
    "sliding_window_pattern": 2,
    "rope_scaling": {"rope_type": "linear", "factor": 4.0},
    "rope_local_base_freq": 100.0,
}
SETS = {
    "full_attention": YARN | {"rope_theta": 1000.0, "rope_type": "yarn"},
    "sliding_attention": {"rope_theta": 100.0, "rope_type": "default"},
}
VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "image_size": 8,
    "patch_size": 4,
}
SCORES = {
    "query_pre_attn_scalar": 30,
    "sliding_window": 12,
    "rms_norm_eps": 0.1,
    "hidden_activation": "silu",
}


class TestGemma(Parity):
    family = "gemma"
    cases = {
        "mha": Case(
            GEMMA | {"num_key_value_heads": 4},
            {"rms_norm_eps": 0.1, "rope_theta": 1300.0, "hidden_act": "silu"},
        ),
        "odd_biased": Case(
            GEMMA | ODD | {"hidden_act": "gelu", "attention_bias": True},
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
        ),
        "affine": Case(
            GEMMA | {"quantization": AFFINE},
            source="mlx_lm",
            instead={"mlx.nn.gelu": "mlx.nn.gelu_approx"},
        ),
    }


class TestGemma2(Parity):
    family = "gemma2"
    cases = {
        "alternating": Case(
            GEMMA2,
            SCORES
            | {
                "rope_theta": 1300.0,
                "attn_logit_softcapping": 3.0,
                "final_logit_softcapping": None,
                "layer_types": LAYERS,
            },
        ),
        "odd_biased": Case(
            GEMMA2
            | ODD
            | {
                "attention_bias": True,
                "layer_types": LAYERS,
                "attn_logit_softcapping": None,
                "final_logit_softcapping": None,
                "tie_word_embeddings": False,
            },
            SCORES | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 4.0},
        ),
        "affine": Case(GEMMA2 | {"sliding_window": 256, "quantization": AFFINE}, source="mlx_lm"),
    }


class TestGemma3Text(Parity):
    family = "gemma3_text"
    cases = {
        "older": Case(
            GEMMA3,
            SCORES
            | {
                "rope_theta": 1300.0,
                "rope_local_base_freq": 40.0,
                "rope_scaling": None,
                "rope_scaling.factor": 6.0,
                "sliding_window_pattern": 3,
            },
        ),
        "odd_biased_sets": Case(
            GEMMA2
            | ODD
            | {
                "model_type": "gemma3_text",
                "layer_types": LAYERS,
                "rope_parameters": SETS,
                "attention_bias": True,
                "attn_logit_softcapping": None,
                "tie_word_embeddings": False,
            },
            SCORES
            | {
                "rope_parameters.full_attention.rope_theta": 1300.0,
                "rope_parameters.full_attention.factor": 2.0,
                "rope_parameters.sliding_attention.rope_theta": 40.0,
                "final_logit_softcapping": None,
                "layer_types": LAYERS[::-1],
            },
        ),
        "affine": Case(
            GEMMA3 | {"quantization": AFFINE, "tie_word_embeddings": False}, source="mlx_lm"
        ),
    }


class TestGemma3(Parity):
    family = "gemma3"
    cases = {
        "with_images": Case(
            {"model_type": "gemma3", "text_config": GEMMA3, "vision_config": VISION},
            {
                "text_config.rope_local_base_freq": 40.0,
                "text_config.query_pre_attn_scalar": 30,
            },
        ),
        "odd_untied": Case(
            {
                "model_type": "gemma3",
                "text_config": GEMMA3 | ODD,
                "vision_config": VISION,
                "tie_word_embeddings": False,
            },
        ),
        "affine": Case(
            {
                "model_type": "gemma3",
                "vocab_size": 80,
                "tie_word_embeddings": False,
                "text_config": GEMMA3,
                "quantization": AFFINE
                | {"language_model.model.layers.1.mlp.up_proj": {"group_size": 64, "bits": 8}},
            },
            source="mlx_lm",
        ),
    }
