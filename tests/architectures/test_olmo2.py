"""OLMo 2 against transformers, and quantized against mlx_lm."""

from typing import Any

import pytest

from bessemer.architectures.config import POST, ConfigError, Paged
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, YARN, Case

OLMO2 = BASE | {"model_type": "olmo2", "num_key_value_heads": None, "attention_bias": False}


class TestOlmo2(Parity):
    family = "olmo2"
    cases = {
        "mha": Case(OLMO2, {"rms_norm_eps": 0.01, "rope_theta": 1300.0}),
        "mqa_yarn_biased_tied": Case(
            OLMO2
            | {
                "hidden_size": 48,
                "num_attention_heads": 3,
                "num_key_value_heads": 1,
                "attention_bias": True,
                "hidden_act": "gelu",
                "rope_scaling": YARN,
                "tie_word_embeddings": True,
            },
            {"rms_norm_eps": 0.01, "hidden_act": "silu", "rope_scaling.factor": 8.0},
        ),
        "affine": Case(
            OLMO2
            | {
                "num_key_value_heads": 2,
                "attention_bias": True,
                "quantization": {"group_size": 32, "bits": 4},
            },
            {"rms_norm_eps": 0.01, "rope_theta": 1300.0},
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[str, Any] = {  # allenai/OLMo-2-1124-7B
    "architectures": ["Olmo2ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "eos_token_id": 100257,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "model_type": "olmo2",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "pad_token_id": 100277,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 500000,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "transformers_version": "4.47.0",
    "use_cache": True,
    "vocab_size": 100352,
}


def test_a_published_config() -> None:
    config = configure(PUBLISHED)
    assert config.caches == (Paged(32, 128, 128),) * 32
    assert {block.names for block in config.blocks} == {POST}
    assert (config.ropes[0].theta, config.context, config.tied) == (500_000.0, 4096, False)


def test_defaults_are_those_of_transformers() -> None:
    left = ("hidden_act", "attention_bias", "num_key_value_heads", "tie_word_embeddings")
    bare = {name: value for name, value in PUBLISHED.items() if name not in left}
    assert configure(bare) == configure(PUBLISHED)
    del bare["rms_norm_eps"]
    assert configure(bare).norm.eps == 1e-5


def test_bounds_of_queries_keys_and_values_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"clip_qkv is 8\.0"):
        configure(PUBLISHED | {"clip_qkv": 8.0})
