"""Llama against transformers, and quantized in MLX's ways against mlx_lm."""

from .parity import Parity
from .tiny import BASE, LLAMA3, Case

AFFINE = {
    "group_size": 64,
    "bits": 4,
    "mode": "affine",
    "model.embed_tokens": {"group_size": 32, "bits": 8},
    "model.layers.0.self_attn.v_proj": {"group_size": 64, "bits": 6},
    "model.layers.0.mlp.down_proj": {"group_size": 128, "bits": 3},
    "model.layers.1.mlp.up_proj": {"group_size": 32, "bits": 5},
    "model.layers.1.mlp.gate_proj": {"group_size": 32, "bits": 2},
    "model.layers.1.self_attn.o_proj": False,
}
LLAMA = BASE | {"model_type": "llama"}
WIDE = LLAMA | {"hidden_size": 128, "intermediate_size": 128}
BIASED = LLAMA | {
    "hidden_size": 48,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "attention_bias": True,
    "mlp_bias": True,
    "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 500.0},
}
del BIASED["rope_theta"]


class TestLlama(Parity):
    family = "llama"
    cases = {
        "llama3": Case(
            LLAMA | {"rope_scaling": LLAMA3},
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "rope_scaling": None,
                "rope_scaling.factor": 5.0,
                "rope_scaling.low_freq_factor": 1.2,
                "rope_scaling.high_freq_factor": 5.0,
                "rope_scaling.original_max_position_embeddings": 80,
            },
        ),
        "mqa_linear_biased_tied": Case(
            BIASED,
            {
                "rms_norm_eps": 0.01,
                "rope_parameters.factor": 3.5,
                "rope_parameters.rope_theta": 600.0,
                "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
            },
        ),
        "dynamic": Case(
            LLAMA
            | {
                "max_position_embeddings": 48,
                "rope_scaling": {"rope_type": "dynamic", "factor": 3.0},
            },
            {"rope_scaling.factor": 6.0, "max_position_embeddings": 256},
        ),
        "affine": Case(WIDE | {"quantization": AFFINE}, source="mlx_lm"),
        "mxfp4": Case(
            WIDE | {"quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4"}},
            source="mlx_lm",
        ),
        "mxfp8": Case(
            WIDE | {"quantization": {"group_size": 32, "bits": 8, "mode": "mxfp8"}},
            source="mlx_lm",
        ),
        "nvfp4": Case(
            WIDE | {"quantization": {"group_size": 16, "bits": 4, "mode": "nvfp4"}},
            source="mlx_lm",
        ),
    }
