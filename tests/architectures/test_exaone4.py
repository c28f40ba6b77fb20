"""EXAONE 4 against transformers, and quantized against mlx_lm."""

from typing import Any

import pytest

from bessemer.architectures.config import POST, AttentionConfig, ConfigError
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, LLAMA3, Case

FULL, SLIDING = "full_attention", "sliding_attention"
EXAONE4 = BASE | {
    "model_type": "exaone4",
    "num_hidden_layers": 4,
    "head_dim": 16,
    "sliding_window": 20,
    "sliding_window_pattern": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


class TestExaone4(Parity):
    family = "exaone4"
    cases = {
        "every_fourth": Case(
            EXAONE4 | {"head_dim": 24, "rope_scaling": LLAMA3},
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "rope_scaling.factor": 5.0,
                "sliding_window": 8,
                "sliding_window_pattern": 2,
                "layer_types": [SLIDING] * 4,
            },
        ),
        "mqa_all_seen_tied": Case(
            EXAONE4
            | {
                "hidden_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 3,
                "num_key_value_heads": 1,
                "hidden_act": "gelu",
                "layer_types": [FULL, FULL],
                "sliding_window": None,
                "sliding_window_pattern": None,
                "tie_word_embeddings": True,
            },
            {"rms_norm_eps": 0.01, "rope_theta": 1300.0, "hidden_act": "silu"},
        ),
        "affine": Case(
            EXAONE4
            | {
                "rope_scaling": LLAMA3,
                "sliding_window_pattern": "LLG",
                "quantization": {"group_size": 32, "bits": 4},
            },
            {"rope_theta": 1300.0, "sliding_window": 8, "sliding_window_pattern": "LG"},
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[str, Any] = {  # LGAI-EXAONE/EXAONE-4.0-32B
    "architectures": ["Exaone4ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 361,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 5120,
    "initializer_range": 0.02,
    "intermediate_size": 27392,
    "layer_types": [SLIDING, SLIDING, SLIDING, FULL] * 16,
    "max_position_embeddings": 131072,
    "model_type": "exaone4",
    "num_attention_heads": 40,
    "num_hidden_layers": 64,
    "num_key_value_heads": 8,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 16.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 1000000,
    "sliding_window": 4096,
    "sliding_window_pattern": "LLLG",
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.54.0.dev0",
    "use_cache": True,
    "vocab_size": 102400,
}


def test_a_published_config() -> None:
    config = configure(PUBLISHED)
    assert {block.names for block in config.blocks} == {POST}
    mixers = [block.mixer for block in config.blocks[:4]]
    layers = [(m.window, m.rope is None) for m in mixers if isinstance(m, AttentionConfig)]
    assert layers == [(4096, False)] * 3 + [(None, True)]


def test_kinds_may_be_said_in_three_ways() -> None:
    letters = {name: value for name, value in PUBLISHED.items() if name != "layer_types"}
    number = letters | {"sliding_window_pattern": 4}
    usual = {name: value for name, value in letters.items() if name != "sliding_window_pattern"}
    assert configure(letters) == configure(number) == configure(usual) == configure(PUBLISHED)


def test_without_a_window_all_layers_know_positions() -> None:
    small = {"sliding_window": None, "sliding_window_pattern": None, "layer_types": [FULL] * 64}
    config = configure(PUBLISHED | small)
    assert len({block.mixer for block in config.blocks}) == len(config.ropes) == 1
    with pytest.raises(ConfigError, match="layer_types is"):
        configure(PUBLISHED | {"sliding_window": None})


def test_other_letters_are_refused() -> None:
    with pytest.raises(ConfigError, match="sliding_window_pattern is 'LLLX'"):
        configure(PUBLISHED | {"sliding_window_pattern": "LLLX", "layer_types": None})
