"""Phi 3.5 with experts against transformers, and quantized against mlx_lm."""

from typing import Any

import pytest

from bessemer.architectures.config import ConfigError
from bessemer.architectures.feed_forward_config import MoeConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, Case

FACTORS = [1.0, 1.5, 2.5, 4.0, 6.0, 9.0, 12.0, 16.0]
LONGROPE = {
    "type": "longrope",
    # alike: transformers 5 takes the short factors for long sequences too, unlike 4 and Microsoft
    "short_factor": FACTORS,
    "long_factor": FACTORS,
    "short_mscale": 1.1,
    "long_mscale": 1.4,
    "original_max_position_embeddings": 40,
}
PHIMOE = BASE | {
    "model_type": "phimoe",
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
    "router_jitter_noise": 0.1,
}
BIASED = {"attention_bias": True, "lm_head_bias": True}


class TestPhimoe(Parity):
    family = "phimoe"
    cases = {
        "longrope_biased": Case(
            PHIMOE | BIASED | {"rope_scaling": LONGROPE},
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "router_jitter_noise": 0.2,
                "rope_scaling": None,
                "rope_scaling.long_mscale": 1.5,
                "rope_scaling.long_factor": [*FACTORS[:6], 10.0, 12.0],
                "rope_scaling.original_max_position_embeddings": 80,
            },
        ),
        "short_factors": Case(
            PHIMOE
            | {
                "original_max_position_embeddings": 100,
                "rope_scaling": LONGROPE
                | {
                    "long_factor": [2 * factor for factor in FACTORS],
                    "original_max_position_embeddings": 100,
                },
            },
            {
                "rope_scaling.short_mscale": 1.2,
                "rope_scaling.short_factor": [*FACTORS[:6], 10.0, 12.0],
                "original_max_position_embeddings": 50,
            },
        ),
        "window_wide_head": Case(
            PHIMOE
            | {
                "hidden_size": 48,
                "head_dim": 20,
                "num_attention_heads": 3,
                "num_key_value_heads": 1,
                "num_local_experts": 3,
                "intermediate_size": 40,
                "sliding_window": 20,
                "lm_head_bias": True,
            },
            {"rms_norm_eps": 0.01, "sliding_window": 21, "router_jitter_noise": 0.2},
        ),
        "affine": Case(
            PHIMOE
            | BIASED
            | {
                # mlx_lm takes the long factors for short sequences too; one token does not turn
                "original_max_position_embeddings": 2,
                "rope_scaling": LONGROPE
                | {"short_mscale": 1.4, "long_factor": [2 * factor for factor in FACTORS]},
                "quantization": {
                    "group_size": 32,
                    "bits": 4,
                    "model.layers.1.block_sparse_moe.gate": {"group_size": 32, "bits": 8},
                },
            },
            {
                "rms_norm_eps": 0.01,
                "router_jitter_noise": 0.2,
                "rope_scaling.long_factor": FACTORS,
                "original_max_position_embeddings": 80,
            },
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[
    str, Any
] = {  # microsoft/Phi-3.5-MoE-instruct, but for the digits of 2 x 64 divisors
    "_name_or_path": "microsoft/Phi-3.5-MoE-instruct",
    "architectures": ["PhiMoEForCausalLM"],
    "attention_bias": True,
    "attention_dropout": 0.0,
    "auto_map": {
        "AutoConfig": "configuration_phimoe.PhiMoEConfig",
        "AutoModelForCausalLM": "modeling_phimoe.PhiMoEForCausalLM",
    },
    "bos_token_id": 1,
    "eos_token_id": 32000,
    "hidden_act": "silu",
    "hidden_dropout": 0.0,
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "input_jitter_noise": 0.01,
    "intermediate_size": 6400,
    "lm_head_bias": True,
    "max_position_embeddings": 131072,
    "model_type": "phimoe",
    "num_attention_heads": 32,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 16,
    "original_max_position_embeddings": 4096,
    "output_router_logits": False,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "long_factor": [1.0] * 32 + [60.0] * 32,
        "long_mscale": 1.243163121016122,
        "original_max_position_embeddings": 4096,
        "short_factor": [1.0] * 32 + [2.0] * 32,
        "short_mscale": 1.243163121016122,
        "type": "longrope",
    },
    "rope_theta": 10000.0,
    "router_aux_loss_coef": 0.0,
    "router_jitter_noise": 0.01,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.43.3",
    "use_cache": True,
    "vocab_size": 32064,
}


def test_a_published_config() -> None:
    config = configure(PUBLISHED)
    experts = MoeConfig(16, 2, 6400, scoring="sparsemixer", normalise=False)
    assert {block.feed_forward for block in config.blocks} == {experts}
    assert (config.norm.kind, config.norm.bias, config.head_bias) == ("layer", True, True)
    assert (config.windows, config.ropes[0].original_context) == ((None,), 4096)
    assert config.ropes[0].long_attention_factor == 1.243163121016122


def test_defaults_are_those_of_transformers() -> None:
    left = ("num_local_experts", "num_experts_per_tok", "num_key_value_heads", "rms_norm_eps")
    left += ("router_jitter_noise", "max_position_embeddings")
    bare = {name: value for name, value in PUBLISHED.items() if name not in left}
    assert configure(bare) == configure(PUBLISHED)
    plain = {
        name: value for name, value in bare.items() if name not in ("rope_theta", "rope_scaling")
    }
    assert configure(plain).ropes[0].theta == 1e6


def test_what_the_scheme_needs_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match="num_experts_per_tok is 3"):
        configure(PUBLISHED | {"num_experts_per_tok": 3})
    scaling = PUBLISHED["rope_scaling"] | {"long_mscale": None}
    with pytest.raises(ConfigError, match=r"rope_scaling\.long_mscale is missing"):
        configure(PUBLISHED | {"rope_scaling": scaling})
