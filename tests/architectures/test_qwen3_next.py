"""Qwen3-Next against transformers, and quantized against mlx_lm."""

from typing import ClassVar

import pytest

from bessemer.architectures.config import AttentionConfig, ConfigError, DeltaConfig
from bessemer.architectures.feed_forward_config import MoeConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, YARN, Case

NEXT = BASE | {
    "model_type": "qwen3_next",
    "head_dim": 32,
    "full_attention_interval": 2,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 24,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 48,
    "num_experts": 6,
    "num_experts_per_tok": 3,
}
ODD = NEXT | {
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "layer_types": ["full_attention", "linear_attention", "linear_attention", "full_attention"],
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 24,
    "attention_bias": True,
    "linear_num_key_heads": 1,
    "linear_num_value_heads": 3,
    "linear_value_head_dim": 12,
    "linear_conv_kernel_dim": 2,
    "mlp_only_layers": [1],
    "num_experts_per_tok": 1,
    "norm_topk_prob": False,
    "rope_parameters": YARN | {"rope_theta": 500.0, "partial_rotary_factor": 0.5},
    "tie_word_embeddings": True,
}
del ODD["rope_theta"], ODD["full_attention_interval"]
EIGHT = {"group_size": 64, "bits": 8}
AFFINE = NEXT | {
    "linear_conv_kernel_dim": 4,
    "intermediate_size": 64,
    "mlp_only_layers": [],
    "decoder_sparse_step": 1,
    "linear_value_head_dim": 32,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 128,
    "norm_topk_prob": True,
    "partial_rotary_factor": 0.25,
    "quantization": {
        "group_size": 32,
        "bits": 4,
        "model.layers.0.linear_attn.in_proj_ba": {"group_size": 32, "bits": 6},
        **{
            f"model.layers.{layer}.mlp.{gate}": EIGHT
            for layer in (0, 1)
            for gate in ("gate", "shared_expert_gate")
        },
    },
}

# Qwen/Qwen3-Next-80B-A3B-Instruct
PUBLISHED = {
    "architectures": ["Qwen3NextForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "decoder_sparse_step": 1,
    "eos_token_id": 151645,
    "full_attention_interval": 4,
    "head_dim": 256,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 5120,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_value_head_dim": 128,
    "max_position_embeddings": 262144,
    "mlp_only_layers": [],
    "model_type": "qwen3_next",
    "moe_intermediate_size": 512,
    "norm_topk_prob": True,
    "num_attention_heads": 16,
    "num_experts": 512,
    "num_experts_per_tok": 10,
    "num_hidden_layers": 48,
    "num_key_value_heads": 2,
    "output_router_logits": False,
    "partial_rotary_factor": 0.25,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 10000000,
    "router_aux_loss_coef": 0.001,
    "shared_expert_intermediate_size": 512,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.57.0.dev0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}


class TestQwen3Next(Parity):
    family = "qwen3_next"
    cases: ClassVar = {
        "shared_keys": Case(
            NEXT | {"decoder_sparse_step": 2},
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "partial_rotary_factor": 0.5,
                "num_experts_per_tok": 2,
                "norm_topk_prob": False,
            },
        ),
        "one_key_one_expert_yarn_biased_tied": Case(
            ODD,
            {
                "rms_norm_eps": 0.01,
                "rope_parameters.rope_theta": 800.0,
                "rope_parameters.factor": 8.0,
                "rope_parameters.partial_rotary_factor": 0.25,
                "norm_topk_prob": True,
                "num_experts_per_tok": 2,
            },
        ),
        "affine": Case(AFFINE, source="mlx_lm"),
    }


def test_the_published_config_is_understood() -> None:
    config = configure(PUBLISHED)
    mixers = [type(block.mixer) for block in config.blocks]
    assert mixers == [DeltaConfig, DeltaConfig, DeltaConfig, AttentionConfig] * 12
    delta, softmax = config.blocks[0].mixer, config.blocks[3].mixer
    assert delta == DeltaConfig(16, 32, 128, 128, 4)
    assert isinstance(softmax, AttentionConfig)
    assert softmax.gated
    assert softmax.rope is not None
    assert (softmax.rope.dims, softmax.rope.theta) == (64, 1e7)
    experts = config.blocks[0].feed_forward
    assert isinstance(experts, MoeConfig)
    assert (experts.count, experts.per_token, experts.shared_gate) == (512, 10, True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_act", "gelu"),
        ("linear_num_value_heads", 24),
        ("linear_conv_kernel_dim", 9),
        ("layer_types", ["full_attention"] * 47 + ["sliding_attention"]),
        ("attn_output_gate", False),
    ],
)
def test_what_is_not_built_is_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        configure(PUBLISHED | {field: value})
