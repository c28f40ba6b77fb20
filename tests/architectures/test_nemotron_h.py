"""Nemotron-H against transformers, with experts and without, and quantized against mlx_lm."""

import math
from typing import Any

import pytest

from bessemer.architectures.config import ConfigError, Recurrent, SsmConfig
from bessemer.architectures.feed_forward_config import MoeConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import Case, Config

NEMOTRON: Config = {
    "model_type": "nemotron_h",
    "vocab_size": 80,
    "hidden_size": 64,
    "intermediate_size": 96,
    "layers_block_type": ["mamba", "mlp", "mamba", "attention", "mlp"],
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "mamba_num_heads": 4,
    "mamba_head_dim": 24,
    "n_groups": 2,
    "ssm_state_size": 16,
    "conv_kernel": 4,
    "chunk_size": 16,
    "max_position_embeddings": 256,
    "layer_norm_epsilon": 0.02,
    "time_step_min": 0.3,
}
EXPERTS = NEMOTRON | {
    "layers_block_type": ["linear_attention", "moe", "full_attention", "moe"],
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 40,
    "moe_shared_expert_intermediate_size": 56,
    "n_group": 4,
    "topk_group": 2,
    "routed_scaling_factor": 2.5,
}
ODD = EXPERTS | {
    "hidden_size": 48,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 40,
    "mamba_num_heads": 3,
    "mamba_head_dim": 20,
    "n_groups": 1,
    "ssm_state_size": 33,
    "conv_kernel": 3,
    "use_bias": True,
    "use_conv_bias": False,
    "mlp_hidden_act": "silu",
    "n_routed_experts": 4,
    "num_experts_per_tok": 1,
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": False,
    "moe_latent_size": 28,
}
AFFINE = EXPERTS | {
    "head_dim": 32,
    "mamba_head_dim": 32,
    "attention_bias": False,
    "mamba_proj_bias": False,
    "use_bias": False,
    "use_conv_bias": True,
    "mlp_bias": False,
    "layers_block_type": None,
    "hybrid_override_pattern": "ME-*E",
    "num_hidden_layers": 5,
    "n_shared_experts": 1,
    "moe_intermediate_size": 64,
    "moe_shared_expert_intermediate_size": 32,
    "norm_topk_prob": True,
    "time_step_min": 1e-9,  # mlx_lm has no least
    "quantization": {
        "group_size": 32,
        "bits": 4,
        "backbone.layers.1.mixer.switch_mlp.fc1": {"group_size": 32, "bits": 8},
        "backbone.layers.0.mixer.in_proj": {"group_size": 64, "bits": 6},
    },
}
LATENT = AFFINE | {"moe_latent_size": 32, "n_group": 1, "topk_group": 1}

PUBLISHED = {  # nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16
    "architectures": ["NemotronHForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_nemotron_h.NemotronHConfig"},
    "bos_token_id": 1,
    "chunk_size": 128,
    "conv_kernel": 4,
    "eos_token_id": 2,
    "expand": 2,
    "head_dim": 128,
    "hidden_dropout": 0.0,
    "hidden_size": 2688,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
    "initializer_range": 0.02,
    "intermediate_size": 1856,
    "layer_norm_epsilon": 1e-05,
    "mamba_head_dim": 64,
    "mamba_hidden_act": "silu",
    "mamba_num_heads": 64,
    "mamba_proj_bias": False,
    "mamba_ssm_cache_dtype": "float32",
    "max_position_embeddings": 262144,
    "mlp_bias": False,
    "mlp_hidden_act": "relu2",
    "model_type": "nemotron_h",
    "moe_intermediate_size": 1856,
    "moe_shared_expert_intermediate_size": 3712,
    "n_group": 1,
    "n_groups": 8,
    "n_routed_experts": 128,
    "n_shared_experts": 1,
    "norm_eps": 1e-05,
    "norm_topk_prob": True,
    "num_attention_heads": 32,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 52,
    "num_key_value_heads": 2,
    "num_logits_to_keep": 1,
    "pad_token_id": 0,
    "partial_rotary_factor": 1.0,
    "rescale_prenorm_residual": True,
    "residual_in_fp32": False,
    "rope_theta": 10000,
    "routed_scaling_factor": 2.5,
    "sliding_window": None,
    "ssm_state_size": 128,
    "tie_word_embeddings": False,
    "time_step_floor": 0.0001,
    "time_step_limit": [0.0, math.inf],
    "time_step_max": 0.1,
    "time_step_min": 0.001,
    "topk_group": 1,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.55.4",
    "use_bias": False,
    "use_cache": True,
    "use_conv_bias": True,
    "use_mamba_kernels": True,
    "vocab_size": 131072,
}
OLDER = {  # nvidia/Nemotron-H-8B-Base-8K
    "architectures": ["NemotronHForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attention_head_dim": 128,
    "chunk_size": 128,
    "conv_kernel": 4,
    "expand": 2,
    "hidden_dropout": 0.0,
    "hidden_size": 4096,
    "hybrid_override_pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
    "initializer_range": 0.02,
    "intermediate_size": 21504,
    "layer_norm_epsilon": 1e-05,
    "mamba_head_dim": 64,
    "mamba_hidden_act": "silu",
    "mamba_num_heads": 128,
    "mamba_proj_bias": False,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "mlp_hidden_act": "relu2",
    "model_type": "nemotron_h",
    "n_groups": 8,
    "num_attention_heads": 32,
    "num_hidden_layers": 52,
    "num_key_value_heads": 8,
    "num_logits_to_keep": 1,
    "rescale_prenorm_residual": True,
    "residual_in_fp32": False,
    "sliding_window": None,
    "ssm_state_size": 128,
    "tie_word_embeddings": False,
    "time_step_floor": 0.0001,
    "time_step_limit": [0.0, {"__float__": "Infinity"}],
    "time_step_max": 0.1,
    "time_step_min": 0.001,
    "time_step_rank": 256,
    "torch_dtype": "bfloat16",
    "use_bias": False,
    "use_cache": True,
    "use_conv_bias": True,
    "use_mamba_kernels": True,
    "vocab_size": 131072,
}


class TestNemotronH(Parity):
    family = "nemotron_h"
    cases = {
        "plain": Case(
            NEMOTRON | {"mlp_bias": True},
            {
                "layer_norm_epsilon": 0.01,
                "time_step_min": 0.2,
                "mlp_hidden_act": "gelu",
            },
        ),
        "experts": Case(
            EXPERTS,
            {
                "num_experts_per_tok": 2,
                "n_group": 2,
                "topk_group": 3,
                "norm_topk_prob": False,
                "routed_scaling_factor": 2.0,
                "mlp_hidden_act": "silu",
            },
        ),
        "odd_latent": Case(
            ODD,
            {"norm_topk_prob": True, "time_step_min": 0.2, "num_experts_per_tok": 2},
        ),
        "affine": Case(AFFINE, {"layer_norm_epsilon": 0.01, "topk_group": 3}, source="mlx_lm"),
        "affine_latent": Case(LATENT, source="mlx_lm"),
    }


def test_published_configs_are_understood() -> None:
    config = configure(PUBLISHED)
    mixer, experts = config.blocks[0].mixer, config.blocks[1].feed_forward
    assert isinstance(mixer, SsmConfig) and isinstance(experts, MoeConfig)
    assert config.windows == (None,)
    assert config.caches[:2] == (Recurrent(((3, 6144), (64, 64, 128))), None)
    assert (experts.per_token, experts.width, experts.shared_width) == (6, 1856, 3712)
    older = configure(OLDER)
    kinds = [block.mixer is None for block in older.blocks]
    assert older.context == 8192 and kinds.count(True) == 24


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hybrid_override_pattern", "M-*P"),
        ("hybrid_override_pattern", None),
        ("num_hidden_layers", 51),
        ("n_groups", 7),
        ("time_step_limit", [0.0, 0.1]),
        ("time_step_limit", [1.0, 0.1]),
        ("time_step_limit", "none"),
        ("attention_bias", True),
        ("mlp_bias", True),
        ("tie_word_embeddings", True),
        ("sliding_window", 512),
        ("topk_group", 2),
    ],
)
def test_what_is_not_built_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        configure(PUBLISHED | {field: value})
