"""LFM2 and its relative with experts against transformers, and quantized against mlx_lm."""

from typing import Any, ClassVar

import pytest

from bessemer.architectures.config import AttentionConfig, ConfigError, ConvConfig
from bessemer.architectures.feed_forward_config import MlpConfig, MoeConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, YARN, Case

SHARED = {
    name: value
    for name, value in BASE.items()
    if name not in ("rms_norm_eps", "tie_word_embeddings")
}
TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LFM2 = (
    SHARED
    | TOKENS
    | {
        "model_type": "lfm2",
        "num_hidden_layers": 3,
        "full_attn_idxs": [1],
        "norm_eps": 0.02,
        "block_ff_dim": 150,
        "block_ffn_dim_multiplier": 1.1,
        "block_multiple_of": 16,
        "block_auto_adjust_ff_dim": True,
    }
)
ODD = (
    SHARED
    | TOKENS
    | {
        "model_type": "lfm2",
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "layer_types": ["full_attention", "conv", "conv"],
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "norm_eps": 0.02,
        "conv_bias": True,
        "conv_L_cache": 5,
        "block_auto_adjust_ff_dim": False,
        "rope_parameters": YARN | {"rope_theta": 500.0},
        "tie_word_embeddings": False,
    }
)
del ODD["rope_theta"]
MLX = {"conv_L_cache": 3, "conv_bias": False, "norm_eps": 0.02}
AFFINE = (
    LFM2
    | MLX
    | {
        "block_dim": 64,
        "block_ff_dim": 96,
        "block_ffn_dim_multiplier": 1.0,
        "block_multiple_of": 64,
        "quantization": {
            "group_size": 64,
            "bits": 4,
            "model.embed_tokens": {"group_size": 32, "bits": 8},
            "model.layers.0.conv.in_proj": {"group_size": 32, "bits": 5},
            "model.layers.1.self_attn.out_proj": {"group_size": 64, "bits": 6},
            "model.layers.1.feed_forward.w3": False,
        },
    }
)
EXPERTS = {
    "model_type": "lfm2_moe",
    "moe_intermediate_size": 32,
    "num_experts": 6,
    "num_experts_per_tok": 3,
    "num_dense_layers": 1,
    "norm_eps": 0.02,
    "num_hidden_layers": 3,
    "layer_types": ["conv", "full_attention", "conv"],
}
MOE = SHARED | TOKENS | EXPERTS | {"routed_scaling_factor": 1.5}
MOE_ODD = (
    {name: value for name, value in ODD.items() if not name.startswith("block_")}
    | EXPERTS
    | {
        "num_dense_layers": 0,
        "num_experts_per_tok": 1,
        "norm_topk_prob": False,
        "use_expert_bias": False,
        "layer_types": ["conv", "conv", "full_attention"],
    }
)
MOE_AFFINE = (
    MOE
    | MLX
    | {
        "moe_intermediate_size": 64,
        "intermediate_size": 128,
        "norm_topk_prob": True,
        "use_expert_bias": True,
        "quantization": {
            "group_size": 32,
            "bits": 4,
            **{
                f"model.layers.{layer}.feed_forward.gate": {"group_size": 64, "bits": 8}
                for layer in (1, 2)
            },
        },
    }
)
MATTERS = {"norm_eps": 0.01, "rope_theta": 1300.0}
ODD_MATTERS = {
    "norm_eps": 0.01,
    "rope_parameters.rope_theta": 900.0,
    "rope_parameters.factor": 8.0,
}

# LiquidAI/LFM2-1.2B
PUBLISHED: dict[str, Any] = {
    "architectures": ["Lfm2ForCausalLM"],
    "block_auto_adjust_ff_dim": True,
    "block_dim": 2048,
    "block_ff_dim": 12288,
    "block_ffn_dim_multiplier": 1.0,
    "block_mlp_init_scale": 1.0,
    "block_multiple_of": 256,
    "block_norm_eps": 1e-05,
    "block_out_init_scale": 1.0,
    "block_use_swiglu": True,
    "block_use_xavier_init": True,
    "bos_token_id": 1,
    "conv_L_cache": 3,
    "conv_bias": False,
    "conv_dim": 2048,
    "conv_dim_out": 2048,
    "conv_use_xavier_init": True,
    "eos_token_id": 7,
    "full_attn_idxs": [2, 5, 8, 10, 12, 14],
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "max_position_embeddings": 128000,
    "model_type": "lfm2",
    "norm_eps": 1e-05,
    "num_attention_heads": 32,
    "num_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "pad_token_id": 0,
    "rope_theta": 1000000.0,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.54.0.dev0",
    "use_cache": True,
    "use_pos_enc": True,
    "vocab_size": 65536,
}
# LiquidAI/LFM2.5-1.2B-Instruct in place of some of these
LATER: dict[str, Any] = {
    "block_ff_dim": None,
    "conv_dim_out": None,
    "dtype": "bfloat16",
    "full_attn_idxs": None,
    "intermediate_size": 12288,
    "layer_types": [
        "full_attention" if layer in (2, 5, 8, 10, 12, 14) else "conv" for layer in range(16)
    ],
    "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
    "rope_theta": None,
    "tie_embedding": True,
    "tie_word_embeddings": True,
    "torch_dtype": None,
    "transformers_version": "5.0.0.dev0",
}
# LiquidAI/LFM2-8B-A1B
PUBLISHED_MOE: dict[str, Any] = {
    "architectures": ["Lfm2MoeForCausalLM"],
    "bos_token_id": 1,
    "conv_L_cache": 3,
    "conv_bias": False,
    "dtype": "bfloat16",
    "eos_token_id": 7,
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 7168,
    "layer_types": [
        "full_attention" if layer in (2, 6, 10, 14, 18, 21) else "conv" for layer in range(24)
    ],
    "max_position_embeddings": 128000,
    "model_type": "lfm2_moe",
    "moe_intermediate_size": 1792,
    "norm_eps": 1e-05,
    "norm_topk_prob": True,
    "num_attention_heads": 32,
    "num_dense_layers": 2,
    "num_experts": 32,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 24,
    "num_key_value_heads": 8,
    "pad_token_id": 0,
    "rope_theta": 1000000.0,
    "routed_scaling_factor": 1.0,
    "tie_embedding": True,
    "transformers_version": "4.57.0.dev0",
    "use_cache": True,
    "use_expert_bias": True,
    "vocab_size": 65536,
}


class TestLfm2(Parity):
    family = "lfm2"
    cases: ClassVar = {
        "adjusted_tied": Case(LFM2, MATTERS),
        "mqa_yarn_biased": Case(ODD, ODD_MATTERS),
        "affine": Case(AFFINE, source="mlx_lm"),
    }


class TestLfm2Moe(Parity):
    family = "lfm2_moe"
    cases: ClassVar = {
        "corrected_tied": Case(
            MOE,
            MATTERS
            | {"num_experts_per_tok": 2, "norm_topk_prob": False, "routed_scaling_factor": 1.0},
        ),
        "one_expert_yarn_biased": Case(
            MOE_ODD,
            ODD_MATTERS
            | {"num_experts_per_tok": 2, "norm_topk_prob": True, "routed_scaling_factor": 2.0},
        ),
        "affine": Case(MOE_AFFINE, source="mlx_lm"),
    }


def test_the_published_config_is_understood() -> None:
    config = configure(PUBLISHED)
    kinds = [type(block.mixer) for block in config.blocks]
    full = PUBLISHED["full_attn_idxs"]
    assert kinds == [AttentionConfig if layer in full else ConvConfig for layer in range(16)]
    assert config.blocks[0].mixer == ConvConfig(2048, 3)
    assert config.tied
    mlp = config.blocks[0].feed_forward
    assert isinstance(mlp, MlpConfig)
    assert mlp.width == 8192


def test_transformers_5_spells_the_same_otherwise() -> None:
    assert configure(PUBLISHED | LATER) == configure(PUBLISHED)


def test_widths_as_published() -> None:
    """The widths are those of LFM2-350M (6656 adjusted) and LFM2-2.6B (not adjusted)."""
    small = {"block_ff_dim": 6656, "hidden_size": 1024, "block_dim": 1024}
    small |= {"conv_dim": 1024, "conv_dim_out": 1024}
    large = {"block_auto_adjust_ff_dim": False, "block_ff_dim": 10752}
    for changes, width in ((small, 4608), (large, 10752)):
        mlp = configure(PUBLISHED | changes).blocks[0].feed_forward
        assert isinstance(mlp, MlpConfig)
        assert mlp.width == width


def test_the_published_config_with_experts_is_understood() -> None:
    config = configure(PUBLISHED_MOE)
    dense, experts = (config.blocks[layer].feed_forward for layer in (1, 2))
    assert isinstance(dense, MlpConfig)
    assert dense.width == 7168
    assert isinstance(experts, MoeConfig)
    assert (experts.count, experts.per_token, experts.width) == (32, 4, 1792)
    assert (experts.scoring, experts.correction) == ("sigmoid", "expert_bias")
    assert config.tied


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("block_dim", 1024),
        ("block_use_swiglu", False),
        ("conv_L_cache", 9),
        ("hidden_act", "gelu"),
        ("layer_types", ["conv"] * 15 + ["sliding_attention"]),
    ],
)
def test_what_is_not_built_is_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        configure(PUBLISHED | {field: value})
