"""Qwen 3.5, dense and with experts, against transformers, and quantized against mlx_lm."""

import re
from typing import Any, ClassVar

import pytest

from bessemer.architectures.config import AttentionConfig, ConfigError, DeltaConfig
from bessemer.architectures.feed_forward_config import MoeConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, Case

ROPE = {
    "rope_type": "default",
    "rope_theta": 1000.0,
    "partial_rotary_factor": 0.5,
    "mrope_interleaved": True,
    "mrope_section": [4, 2, 2],
}
TEXT = BASE | {
    "model_type": "qwen3_5_text",
    "head_dim": 32,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 24,
    "rope_parameters": ROPE,
}
del TEXT["rope_theta"]
ODD = TEXT | {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "layer_types": ["full_attention", "linear_attention", "linear_attention"],
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 24,
    "attention_bias": True,
    "linear_num_key_heads": 1,
    "linear_num_value_heads": 3,
    "linear_value_head_dim": 12,
    "linear_conv_kernel_dim": 3,
    "rope_parameters": ROPE | {"partial_rotary_factor": 1.0},
    "tie_word_embeddings": True,
}
IMAGES = {
    "model_type": "qwen3_5",
    "text_config": TEXT | {"intermediate_size": 80},
    "vision_config": {
        "model_type": "qwen3_5_vision",
        "depth": 1,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": 64,
        "num_position_embeddings": 16,
        "patch_size": 4,
    },
    "image_token_id": 70,
    "video_token_id": 71,
    "vision_start_token_id": 72,
    "vision_end_token_id": 73,
    "tie_word_embeddings": False,
}
EXPERTS = {
    "model_type": "qwen3_5_moe_text",
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 48,
    "num_experts": 6,
    "num_experts_per_tok": 3,
}
WIDE = TEXT | {
    "intermediate_size": 128,
    "full_attention_interval": 2,
    "linear_conv_kernel_dim": 4,
    "linear_value_head_dim": 32,
}
AFFINE = {
    "model_type": "qwen3_5",
    "text_config": WIDE,
    "quantization": {
        "group_size": 32,
        "bits": 4,
        "language_model.model.layers.0.linear_attn.in_proj_a": {"group_size": 64, "bits": 8},
        "language_model.model.layers.0.linear_attn.in_proj_z": False,
        "language_model.lm_head": {"group_size": 64, "bits": 6},
    },
}
EXPERTS_AFFINE = {
    "model_type": "qwen3_5_moe",
    "text_config": WIDE
    | EXPERTS
    | {"moe_intermediate_size": 64, "shared_expert_intermediate_size": 64},
    "quantization": {
        "group_size": 64,
        "bits": 4,
        **{
            f"language_model.model.layers.{layer}.mlp.{gate}": {"group_size": 64, "bits": 8}
            for layer in (0, 1)
            for gate in ("gate", "shared_expert_gate")
        },
    },
}
MATTERS = {
    "rms_norm_eps": 0.01,
    "rope_parameters.rope_theta": 1300.0,
    "rope_parameters.partial_rotary_factor": 0.25,
}

# Qwen/Qwen3.5-27B, and what Qwen/Qwen3.5-35B-A3B has in its place.
PUBLISHED: dict[str, Any] = {
    "architectures": ["Qwen3_5ForConditionalGeneration"],
    "image_token_id": 248056,
    "model_type": "qwen3_5",
    "text_config": {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_output_gate": True,
        "dtype": "bfloat16",
        "eos_token_id": 248044,
        "full_attention_interval": 4,
        "head_dim": 256,
        "hidden_act": "silu",
        "hidden_size": 5120,
        "initializer_range": 0.02,
        "intermediate_size": 17408,
        "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 16,
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 48,
        "linear_value_head_dim": 128,
        "mamba_ssm_dtype": "float32",
        "max_position_embeddings": 262144,
        "mlp_only_layers": [],
        "model_type": "qwen3_5_text",
        "mtp_num_hidden_layers": 1,
        "mtp_use_dedicated_embeddings": False,
        "num_attention_heads": 24,
        "num_hidden_layers": 64,
        "num_key_value_heads": 4,
        "output_gate_type": "swish",
        "partial_rotary_factor": 0.25,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {
            "mrope_interleaved": True,
            "mrope_section": [11, 11, 10],
            "partial_rotary_factor": 0.25,
            "rope_theta": 10000000,
            "rope_type": "default",
        },
        "tie_word_embeddings": False,
        "use_cache": True,
        "vocab_size": 248320,
    },
    "tie_word_embeddings": False,
    "transformers_version": "4.57.0.dev0",
    "video_token_id": 248057,
    "vision_config": {"depth": 27, "hidden_size": 1152, "model_type": "qwen3_5"},
    "vision_end_token_id": 248054,
    "vision_start_token_id": 248053,
}
SPARSE = {
    "hidden_size": 2048,
    "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 10,
    "linear_num_value_heads": 32,
    "model_type": "qwen3_5_moe_text",
    "moe_intermediate_size": 512,
    "num_attention_heads": 16,
    "num_experts": 256,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 40,
    "num_key_value_heads": 2,
    "output_router_logits": False,
    "router_aux_loss_coef": 0.001,
    "shared_expert_intermediate_size": 512,
}


class TestQwen35(Parity):
    family = "qwen3_5"
    cases: ClassVar = {
        "text": Case(TEXT, MATTERS),
        "one_key_all_turning_biased_tied": Case(ODD, MATTERS),
        "images": Case(
            IMAGES,
            {f"text_config.{field}": value for field, value in MATTERS.items()},
            auto="AutoModelForImageTextToText",
        ),
        "experts": Case(TEXT | EXPERTS, MATTERS | {"num_experts_per_tok": 2}),
        "one_expert_tied": Case(
            ODD | EXPERTS | {"num_experts_per_tok": 1},
            MATTERS | {"num_experts_per_tok": 3},
        ),
        "affine": Case(AFFINE, source="mlx_lm"),
        "experts_affine": Case(EXPERTS_AFFINE, source="mlx_lm"),
    }


def with_text(**changes: Any) -> dict[str, Any]:
    return PUBLISHED | {"text_config": PUBLISHED["text_config"] | changes}


def test_the_published_config_is_understood() -> None:
    config = configure(PUBLISHED)
    delta, softmax = config.blocks[0].mixer, config.blocks[63].mixer
    assert delta == DeltaConfig(16, 48, 128, 128, 4)
    assert isinstance(softmax, AttentionConfig)
    assert softmax.gated
    assert softmax.rope is not None
    assert (softmax.rope.dims, softmax.rope.theta) == (64, 1e7)
    assert (config.model_type, config.hidden_size, config.tied) == ("qwen3_5", 5120, False)


def test_the_published_config_with_experts_is_understood() -> None:
    config = configure(with_text(**SPARSE) | {"model_type": "qwen3_5_moe"})
    experts = config.blocks[0].feed_forward
    assert isinstance(experts, MoeConfig)
    assert (experts.count, experts.per_token, experts.width) == (256, 8, 512)
    assert experts.normalise
    assert (config.layers, config.model_type) == (40, "qwen3_5_moe")


@pytest.mark.parametrize(
    ("field", "value"), [("output_gate_type", "sigmoid"), ("attn_output_gate", False)]
)
def test_what_is_not_built_is_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"text_config.{field}"):
        configure(with_text(**{field: value}))


@pytest.mark.parametrize(
    "name", ["mtp.fc.weight", "model.visual.merger.norm.weight", "vision_tower.merger.norm.weight"]
)
def test_what_sees_and_what_predicts_further_is_left_out(name: str) -> None:
    config = configure(PUBLISHED)
    for pattern, into in config.renames:
        name = re.sub(pattern, into, name)
    assert any(re.match(pattern, name) for pattern in config.unused)
