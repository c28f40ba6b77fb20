"""MiniMax M2 against transformers, and quantized against mlx_lm."""

from typing import Any

import pytest

from bessemer.architectures.config import AttentionConfig, ConfigError
from bessemer.architectures.feed_forward_config import MoeConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, YARN, Case

MINIMAX_M2 = BASE | {
    "model_type": "minimax_m2",
    "head_dim": 24,
    "rotary_dim": 12,
    "intermediate_size": 40,
    "num_local_experts": 6,
    "num_experts_per_tok": 3,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GATE = {"group_size": 64, "bits": 8}


class TestMinimaxM2(Parity):
    family = "minimax_m2"
    cases = {
        "half": Case(
            MINIMAX_M2,
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "rotary_dim": 24,
                "num_experts_per_tok": 2,
            },
        ),
        "mqa_one_expert_yarn_tied": Case(
            MINIMAX_M2
            | {
                "hidden_size": 48,
                "num_attention_heads": 3,
                "num_key_value_heads": 1,
                "num_experts_per_tok": 1,
                "rope_scaling": YARN,
                "tie_word_embeddings": True,
            },
            {"rms_norm_eps": 0.01, "rope_scaling.factor": 8.0, "num_experts_per_tok": 2},
        ),
        "affine": Case(
            MINIMAX_M2
            | {
                "hidden_size": 128,
                "head_dim": 32,
                "rotary_dim": 16,
                "intermediate_size": 64,
                "shared_intermediate_size": 0,
                "quantization": {
                    "group_size": 64,
                    "bits": 4,
                    "model.layers.0.block_sparse_moe.gate": GATE,
                    "model.layers.1.block_sparse_moe.gate": GATE,
                },
            },
            {"rms_norm_eps": 0.01, "rotary_dim": 32, "num_experts_per_tok": 2},
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[str, Any] = {  # MiniMaxAI/MiniMax-M2
    "architectures": ["MiniMaxM2ForCausalLM"],
    "attention_dropout": 0.0,
    "attn_type_list": [1] * 62,
    "auto_map": {"AutoConfig": "configuration_minimax_m2.MiniMaxM2Config"},
    "bos_token_id": None,
    "eos_token_id": None,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 3072,
    "initializer_range": 0.02,
    "intermediate_size": 1536,
    "layernorm_full_attention_beta": 1.0,
    "layernorm_linear_attention_beta": 1.0,
    "layernorm_mlp_beta": 1.0,
    "max_position_embeddings": 196608,
    "mlp_intermediate_size": 8192,
    "model_type": "minimax_m2",
    "mtp_transformer_layers": 1,
    "num_attention_heads": 48,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 62,
    "num_key_value_heads": 8,
    "num_local_experts": 256,
    "num_mtp_modules": 3,
    "output_router_logits": False,
    "qk_norm_type": "per_layer",
    "quantization_config": {
        "activation_scheme": "dynamic",
        "fmt": "float8_e4m3fn",
        "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"],
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    },
    "rms_norm_eps": 1e-06,
    "rope_theta": 5000000,
    "rotary_dim": 64,
    "router_aux_loss_coef": 0.001,
    "router_jitter_noise": 0.0,
    "scoring_func": "sigmoid",
    "shared_intermediate_size": 0,
    "shared_moe_mode": "sigmoid",
    "sliding_window": None,
    "tie_word_embeddings": False,
    "transformers_version": "4.46.1",
    "use_cache": True,
    "use_mtp": True,
    "use_qk_norm": True,
    "use_routing_bias": True,
    "vocab_size": 200064,
}


def test_a_published_config() -> None:
    config = configure(PUBLISHED)
    experts, mixer = config.blocks[61].feed_forward, config.blocks[61].mixer
    assert isinstance(experts, MoeConfig) and isinstance(mixer, AttentionConfig)
    assert (experts.count, experts.per_token, experts.width) == (256, 8, 1536)
    assert (experts.scoring, experts.correction) == ("sigmoid", "e_score_correction_bias")
    assert (mixer.qk_norm, mixer.rope) == ("all", config.ropes[0])
    assert (config.ropes[0].dims, config.ropes[0].theta) == (64, 5e6)
    assert config.quantization.method == "fp8"
    assert config.unused == tuple(rf"model\.layers\.{layer}\." for layer in (62, 63, 64))


def test_defaults_are_those_of_transformers() -> None:
    left = (
        "head_dim",
        "intermediate_size",
        "max_position_embeddings",
        "num_experts_per_tok",
        "num_key_value_heads",
        "num_local_experts",
        "rope_theta",
    )
    bare = {name: value for name, value in PUBLISHED.items() if name not in left}
    assert configure(bare) == configure(PUBLISHED)
    del bare["rotary_dim"]
    assert configure(bare).ropes[0].dims == 128


def test_a_share_of_the_head_is_another_spelling() -> None:
    other = {name: value for name, value in PUBLISHED.items() if name != "rotary_dim"}
    rope = {"rope_type": "default", "rope_theta": 5e6, "partial_rotary_factor": 0.5}
    assert configure(other | {"rope_parameters": rope}) == configure(PUBLISHED)


@pytest.mark.parametrize(
    "other",
    [
        {"attn_type_list": [0] + [1] * 61},
        {"layernorm_mlp_beta": 3.5},
        {"qk_norm_type": "per_head"},
        {"rotary_dim": 256},
        {"scoring_func": "softmax"},
        {"shared_intermediate_size": 1536},
        {"use_qk_norm": False},
        {"use_routing_bias": False},
    ],
)
def test_what_is_not_built_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(other))):
        configure(PUBLISHED | other)
