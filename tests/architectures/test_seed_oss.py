"""Seed-OSS against transformers, and quantized against mlx_lm."""

from typing import Any

from bessemer.architectures.config import AttentionConfig, Paged
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, YARN, Case

SEED_OSS = BASE | {
    "model_type": "seed_oss",
    "head_dim": 24,
    "attention_bias": True,
    "attention_out_bias": False,
    "mlp_bias": False,
}


class TestSeedOss(Parity):
    family = "seed_oss"
    cases = {
        "inputs_biased": Case(SEED_OSS, {"rms_norm_eps": 0.01, "rope_theta": 1300.0}),
        "mqa_yarn_outputs_biased_tied": Case(
            SEED_OSS
            | {
                "hidden_size": 48,
                "num_attention_heads": 3,
                "num_key_value_heads": 1,
                "head_dim": None,
                "attention_bias": False,
                "attention_out_bias": True,
                "mlp_bias": True,
                "rope_scaling": YARN,
                "tie_word_embeddings": True,
            },
            {"rms_norm_eps": 0.01, "rope_scaling.factor": 8.0},
        ),
        "affine": Case(
            SEED_OSS
            | {
                "head_dim": 32,
                "mlp_bias": True,
                "attention_out_bias": True,
                "quantization": {"group_size": 32, "bits": 4},
            },
            {"rms_norm_eps": 0.01, "rope_theta": 1300.0},
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[str, Any] = {  # ByteDance-Seed/Seed-OSS-36B-Instruct
    "architectures": ["SeedOssForCausalLM"],
    "attention_bias": True,
    "attention_dropout": 0.1,
    "attention_out_bias": False,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 5120,
    "initializer_range": 0.02,
    "intermediate_size": 27648,
    "max_position_embeddings": 524288,
    "mlp_bias": False,
    "model_type": "seed_oss",
    "num_attention_heads": 80,
    "num_hidden_layers": 64,
    "num_key_value_heads": 8,
    "pad_token_id": 1,
    "residual_dropout": 0.1,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {"rope_type": "default"},
    "rope_theta": 10000000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.55.0",
    "use_cache": True,
    "vocab_size": 155136,
}


def test_a_published_config() -> None:
    config = configure(PUBLISHED)
    assert config.caches == (Paged(8, 128, 128),) * 64
    mixer = config.blocks[0].mixer
    assert isinstance(mixer, AttentionConfig)
    assert (mixer.heads, mixer.bias, mixer.output_bias) == (80, True, False)


def test_defaults_are_those_of_transformers() -> None:
    left = (
        "attention_bias",
        "attention_out_bias",
        "head_dim",
        "max_position_embeddings",
        "mlp_bias",
        "num_key_value_heads",
        "rms_norm_eps",
    )
    bare = {name: value for name, value in PUBLISHED.items() if name not in left}
    assert configure(bare) == configure(PUBLISHED)
