"""OLMo 3 against transformers, and quantized against mlx_lm."""

from typing import Any

import pytest

from bessemer.architectures.config import ConfigError, Rope
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, YARN, Case

FULL, SLIDING = "full_attention", "sliding_attention"
# transformers reads one theta of both kinds of layers only where it is this one.
OLMO3 = BASE | {
    "model_type": "olmo3",
    "num_hidden_layers": 4,
    "rope_theta": 500_000.0,
    "sliding_window": 20,
    "attention_bias": False,
}
SETS = OLMO3 | {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "attention_bias": True,
    "tie_word_embeddings": True,
    "layer_types": [FULL, SLIDING, FULL],
    "rope_parameters": {
        FULL: {"rope_type": "linear", "factor": 2.0, "rope_theta": 1000.0},
        SLIDING: {"rope_type": "default", "rope_theta": 500.0},
    },
}
del SETS["rope_theta"]


class TestOlmo3(Parity):
    family = "olmo3"
    cases = {
        "yarn": Case(
            OLMO3 | {"rope_scaling": YARN | {"rope_type": "yarn"}},
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "rope_scaling.factor": 32.0,
                "rope_scaling": None,
                "sliding_window": 8,
                "layer_types": [SLIDING] * 4,
            },
        ),
        "mqa_sets_biased_tied": Case(
            SETS,
            {
                "rms_norm_eps": 0.01,
                "sliding_window": 8,
                "layer_types": [SLIDING, SLIDING, FULL],
                f"rope_parameters.{FULL}.factor": 3.0,
                f"rope_parameters.{FULL}.rope_theta": 800.0,
                f"rope_parameters.{SLIDING}.rope_theta": 800.0,
            },
        ),
        "affine": Case(
            OLMO3 | {"rope_theta": 1000.0, "quantization": {"group_size": 32, "bits": 4}},
            {"rms_norm_eps": 0.01, "rope_theta": 1300.0, "sliding_window": 8},
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[str, Any] = {  # allenai/Olmo-3-1025-7B
    "architectures": ["Olmo3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "eos_token_id": 100257,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 11008,
    "layer_types": [SLIDING, SLIDING, SLIDING, FULL] * 8,
    "max_position_embeddings": 65536,
    "model_type": "olmo3",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "pad_token_id": 100277,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "attention_factor": 1.2079441541679836,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "factor": 8.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "yarn",
    },
    "rope_theta": 500000,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.57.0",
    "use_cache": True,
    "vocab_size": 100278,
}


def test_a_published_config() -> None:
    config = configure(PUBLISHED)
    local, full = config.ropes
    assert local == Rope(128, 500_000.0)
    assert (full.kind, full.factor, full.attention_factor) == ("yarn", 8.0, 1.2079441541679836)
    assert config.windows == (None, 4096)


def test_defaults_are_those_of_transformers() -> None:
    left = ("rope_theta", "layer_types", "sliding_window", "num_key_value_heads")
    bare = {name: value for name, value in PUBLISHED.items() if name not in left}
    assert configure(bare) == configure(PUBLISHED)


def test_a_missing_window_and_one_set_of_new_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="sliding_window is missing"):
        configure(PUBLISHED | {"sliding_window": None})
    flat = {"rope_type": "default", "rope_theta": 500000}
    with pytest.raises(ConfigError, match=r"rope_parameters is .* a set of values for each"):
        configure(PUBLISHED | {"rope_scaling": None, "rope_parameters": flat})
