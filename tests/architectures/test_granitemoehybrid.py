"""Granite 4 against transformers, with experts and without, and quantized against mlx_lm."""

import math
from typing import Any

import pytest

from bessemer.architectures.config import AttentionConfig, ConfigError, SsmConfig
from bessemer.architectures.feed_forward_config import MoeConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import Case, Config

HYBRID: Config = {
    "model_type": "granitemoehybrid",
    "vocab_size": 80,
    "hidden_size": 64,
    "intermediate_size": 40,
    "shared_intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 256,
    "rms_norm_eps": 0.02,
    "tie_word_embeddings": False,
    "layer_types": ["mamba", "attention", "mamba"],
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
    "mamba_n_heads": 4,
    "mamba_d_head": 32,
    "mamba_n_groups": 2,
    "mamba_d_state": 16,
    "mamba_chunk_size": 16,
    "time_step_limit": [0.1, 2.0],
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.35,
    "residual_multiplier": 0.6,
    "logits_scaling": 0.8,
    "pad_token_id": 0,
}
DENSE = HYBRID | {
    "hidden_size": 48,
    "num_attention_heads": 6,
    "num_key_value_heads": 1,
    "mamba_n_heads": 3,
    "mamba_d_head": "auto",
    "mamba_n_groups": 1,
    "mamba_d_state": 33,
    "mamba_d_conv": 3,
    "mamba_expand": 1,
    "mamba_proj_bias": True,
    "mamba_conv_bias": False,
    "attention_bias": True,
    "num_local_experts": 0,
    "position_embedding_type": "rope",
    "rope_theta": 1000.0,
    "tie_word_embeddings": True,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "residual_multiplier": 1.0,
    "logits_scaling": 0.5,
}
del DENSE["time_step_limit"]
AFFINE = HYBRID | {
    "attention_bias": False,
    "intermediate_size": 32,
    "shared_intermediate_size": 64,
    "num_local_experts": 4,
    "mamba_n_groups": 1,  # mlx_lm's norm is of all groups at once
    "mamba_d_conv": 4,
    "mamba_proj_bias": False,
    "mamba_conv_bias": True,
    "position_embedding_type": "nope",
    "quantization": {
        "group_size": 32,
        "bits": 4,
        "model.layers.0.mamba.in_proj": {"group_size": 64, "bits": 8},
        "model.layers.1.shared_mlp.input_linear": {"group_size": 64, "bits": 6},
    }
    | {
        f"model.layers.{layer}.block_sparse_moe.router.layer": {"group_size": 64, "bits": 8}
        for layer in range(3)
    },
}
AFFINE_DENSE = AFFINE | {
    "intermediate_size": 64,  # mlx_lm's name of the shared width
    "num_local_experts": 0,
    "num_experts_per_tok": 0,
    "position_embedding_type": "rope",
    "rope_theta": 1000.0,
    "quantization": {"group_size": 32, "bits": 4},
}
MULTIPLIERS = {
    "embedding_multiplier": 2.0,
    "attention_multiplier": 0.25,
    "residual_multiplier": 0.7,
    "logits_scaling": 1.0,
    "rms_norm_eps": 0.01,
}

PUBLISHED = {  # ibm-granite/granite-4.0-h-small
    "architectures": ["GraniteMoeHybridForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attention_multiplier": 0.0078125,
    "bos_token_id": 100257,
    "embedding_multiplier": 12,
    "eos_token_id": 100257,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "init_method": "mup",
    "initializer_range": 0.1,
    "intermediate_size": 768,
    "layer_types": ["attention" if i in (5, 15, 25, 35) else "mamba" for i in range(40)],
    "logits_scaling": 16,
    "mamba_chunk_size": 256,
    "mamba_conv_bias": True,
    "mamba_d_conv": 4,
    "mamba_d_head": 64,
    "mamba_d_state": 128,
    "mamba_expand": 2,
    "mamba_n_groups": 1,
    "mamba_n_heads": 128,
    "mamba_proj_bias": False,
    "max_position_embeddings": 131072,
    "model_type": "granitemoehybrid",
    "normalization_function": "rmsnorm",
    "num_attention_heads": 32,
    "num_experts_per_tok": 10,
    "num_hidden_layers": 40,
    "num_key_value_heads": 8,
    "num_local_experts": 72,
    "output_router_logits": False,
    "pad_token_id": 100256,
    "position_embedding_type": "nope",
    "residual_multiplier": 0.22,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000,
    "router_aux_loss_coef": 0.0,
    "shared_intermediate_size": 1536,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.56.0",
    "use_cache": True,
    "vocab_size": 100352,
}
MICRO = PUBLISHED | {  # ibm-granite/granite-4.0-micro, as transformers 5 saves it
    "attention_multiplier": 0.015625,
    "hidden_size": 2560,
    "intermediate_size": 8192,
    "layer_types": ["full_attention"] * 40,
    "logits_scaling": 10,
    "mamba_n_heads": 128,
    "num_attention_heads": 40,
    "num_experts_per_tok": 0,
    "num_local_experts": 0,
    "position_embedding_type": "rope",
    "rope_parameters": {"rope_theta": 10_000_000, "rope_type": "default"},
    "shared_intermediate_size": 8192,
    "time_step_limit": [0.0, {"__float__": "Infinity"}],
}


class TestGraniteMoeHybrid(Parity):
    family = "granitemoehybrid"
    cases = {
        "experts": Case(
            HYBRID,
            MULTIPLIERS
            | {
                "num_experts_per_tok": 3,
                "time_step_limit": [0.1, 1.0],
                "position_embedding_type": "rope",
            },
        ),
        "dense_odd_biased_tied": Case(
            DENSE,
            {
                "rope_theta": 1300.0,
                "position_embedding_type": None,
                "time_step_limit": [0.3, math.inf],
            },
        ),
        "affine": Case(AFFINE, MULTIPLIERS | {"time_step_limit": [0.2, 2.0]}, source="mlx_lm"),
        "affine_dense": Case(AFFINE_DENSE, MULTIPLIERS, source="mlx_lm"),
    }


def test_published_configs_are_understood() -> None:
    config = configure(PUBLISHED)
    first, sixth = config.blocks[0].mixer, config.blocks[5].mixer
    assert isinstance(first, SsmConfig) and isinstance(sixth, AttentionConfig)
    assert (first.min_step, first.max_step, first.channels) == (0, math.inf, 8448)
    assert sixth.rope is None and sixth.scale == 1 / 128
    experts = config.blocks[39].feed_forward
    assert isinstance(experts, MoeConfig) and experts.shared_width == 1536
    micro = configure(MICRO)
    mixer = micro.blocks[0].mixer
    assert isinstance(mixer, AttentionConfig) and mixer.rope is not None
    assert mixer.rope.theta == 1e7 and mixer.head_dim == 64


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mamba_d_head", 63),
        ("mamba_n_groups", 3),
        ("mamba_n_heads", 100),
        ("hidden_act", "gelu"),
        ("mlp_bias", True),
        ("normalization_function", "layernorm"),
        ("position_embedding_type", "learned"),
        ("layer_types", ["mamba"] * 39),
        ("time_step_limit", [0.1]),
        ("time_step_limit", [0.1, True]),
        ("time_step_limit", [-0.1, 1.0]),
        ("time_step_limit", [math.nan, 1.0]),
    ],
)
def test_what_is_not_built_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match="mamba_n_heads" if field == "mamba_d_head" else field):
        configure(PUBLISHED | {field: value})
