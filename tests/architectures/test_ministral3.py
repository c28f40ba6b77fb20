"""Ministral 3 against transformers, and quantized against mlx_lm."""

from typing import Any

import pytest

from bessemer.architectures.config import AttentionConfig, BlockConfig, ConfigError, Rope
from bessemer.architectures.feed_forward_config import MlpConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, Case

ROPE = {
    "rope_type": "yarn",
    "rope_theta": 1000.0,
    "factor": 16.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.7,
}
MINISTRAL3 = BASE | {"model_type": "ministral3", "rope_parameters": ROPE}
del MINISTRAL3["rope_theta"]


class TestMinistral3(Parity):
    family = "ministral3"
    cases = {
        "wide_head_tied": Case(
            MINISTRAL3
            | {
                "hidden_size": 48,
                "num_attention_heads": 3,
                "num_key_value_heads": 1,
                "head_dim": 24,
                "tie_word_embeddings": True,
            },
            {
                "rms_norm_eps": 0.01,
                "rope_parameters.rope_theta": 1300.0,
                "rope_parameters.llama_4_scaling_beta": 0.8,
                "rope_parameters.original_max_position_embeddings": 17,
            },
        ),
        "window_unscaled": Case(
            MINISTRAL3
            | {
                "head_dim": 16,
                "sliding_window": 20,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 1000.0,
                    "original_max_position_embeddings": 10,
                    "llama_4_scaling_beta": 0.5,
                },
            },
            {
                "rope_parameters.llama_4_scaling_beta": 0.6,
                "rope_parameters.original_max_position_embeddings": 11,
                "sliding_window": 21,
            },
        ),
        "affine": Case(
            MINISTRAL3 | {"head_dim": 32, "quantization": {"group_size": 32, "bits": 6}},
            {"rms_norm_eps": 0.01, "rope_parameters.llama_4_scaling_beta": 0.8},
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[str, Any] = {  # the text_config of mistralai/Ministral-3-3B-Instruct-2512
    "attention_dropout": 0.0,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 3072,
    "initializer_range": 0.02,
    "intermediate_size": 9216,
    "max_position_embeddings": 262144,
    "model_type": "ministral3",
    "num_attention_heads": 32,
    "num_hidden_layers": 26,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_parameters": {
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "factor": 16.0,
        "llama_4_scaling_beta": 0.1,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 16384,
        "rope_theta": 1000000.0,
        "rope_type": "yarn",
        "type": "yarn",
    },
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_cache": True,
    "vocab_size": 131072,
}


def test_a_published_config() -> None:
    config = configure(PUBLISHED)
    rope = Rope(128, 1e6, "yarn", 16.0, original_context=16384)
    mixer = AttentionConfig(
        32, 8, 128, 128**-0.5, rope, attention_temperature=0.1, temperature_from=16384
    )
    assert config.blocks == (BlockConfig(mixer, MlpConfig(9216)),) * 26
    assert (config.context, config.tied) == (262144, True)


def test_defaults_are_those_of_transformers() -> None:
    left = ("rope_parameters", "rms_norm_eps", "head_dim", "num_key_value_heads")
    left += ("max_position_embeddings",)
    bare = {name: value for name, value in PUBLISHED.items() if name not in left}
    assert configure(bare) == configure(PUBLISHED)


def test_the_scheme_of_the_queries_is_not_optional() -> None:
    rope = {"rope_type": "default", "original_max_position_embeddings": 16384}
    with pytest.raises(ConfigError, match="llama_4_scaling_beta is missing"):
        configure(PUBLISHED | {"rope_parameters": rope})
