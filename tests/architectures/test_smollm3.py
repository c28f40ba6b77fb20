"""SmolLM 3 against transformers, and quantized against mlx_lm."""

from typing import Any

import pytest

from bessemer.architectures.config import AttentionConfig, ConfigError, ModelConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, YARN, Case

FULL, SLIDING = "full_attention", "sliding_attention"
SMOLLM3 = BASE | {
    "model_type": "smollm3",
    "num_hidden_layers": 4,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


class TestSmollm3(Parity):
    family = "smollm3"
    cases = {
        "interval": Case(
            SMOLLM3,
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "no_rope_layer_interval": 2,
                "no_rope_layers": [1, 1, 1, 1],
            },
        ),
        "mqa_windows_yarn_biased_untied": Case(
            SMOLLM3
            | {
                "hidden_size": 48,
                "num_hidden_layers": 3,
                "num_attention_heads": 3,
                "num_key_value_heads": 1,
                "attention_bias": True,
                "mlp_bias": True,
                "tie_word_embeddings": False,
                "no_rope_layers": [0, 1, 0, 1],
                "use_sliding_window": True,
                "sliding_window": 20,
                "rope_scaling": YARN,
            },
            {
                "rms_norm_eps": 0.01,
                "no_rope_layers": [0, 1, 1],
                "rope_scaling.factor": 8.0,
                "sliding_window": 8,
                "use_sliding_window": False,
                "layer_types": [FULL, FULL, FULL],
            },
        ),
        "kinds": Case(
            SMOLLM3
            | {
                "num_hidden_layers": 3,
                "no_rope_layers": [1, 0, 1],
                "use_sliding_window": True,
                "sliding_window": 20,
                "layer_types": [SLIDING, FULL, FULL],
            },
            {"layer_types": [SLIDING, SLIDING, FULL], "no_rope_layers": [0, 1, 1]},
        ),
        "affine": Case(
            SMOLLM3
            | {"no_rope_layers": [1, 0, 1, 1], "quantization": {"group_size": 32, "bits": 4}},
            {"rms_norm_eps": 0.01, "rope_theta": 1300.0, "no_rope_layers": [1, 1, 0, 1]},
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[str, Any] = {  # HuggingFaceTB/SmolLM3-3B
    "architectures": ["SmolLM3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": None,
    "eos_token_id": 128012,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 11008,
    "is_llama_config": True,
    "layer_types": [FULL] * 36,
    "max_position_embeddings": 65536,
    "max_window_layers": 28,
    "mlp_bias": False,
    "model_type": "smollm3",
    "no_rope_layer_interval": 4,
    "no_rope_layers": [1, 1, 1, 0] * 9,
    "num_attention_heads": 16,
    "num_hidden_layers": 36,
    "num_key_value_heads": 4,
    "pad_token_id": 128004,
    "pretraining_tp": 2,
    "rms_norm_eps": 1e-06,
    "rope_interleaved": False,
    "rope_scaling": None,
    "rope_theta": 5000000.0,
    "sliding_window": None,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.54.0.dev0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 128256,
}


def with_rope(config: ModelConfig) -> list[bool]:
    mixers = [block.mixer for block in config.blocks]
    return [isinstance(each, AttentionConfig) and each.rope is not None for each in mixers]


def test_a_published_config() -> None:
    config = configure(PUBLISHED)
    assert with_rope(config) == [True, True, True, False] * 9
    assert (config.windows, config.tied, config.ropes[0].theta) == ((None,), True, 5e6)


def test_defaults_are_those_of_transformers() -> None:
    left = ("no_rope_layers", "no_rope_layer_interval", "layer_types", "num_key_value_heads")
    bare = {name: value for name, value in PUBLISHED.items() if name not in left}
    assert configure(bare) == configure(PUBLISHED)
    del bare["rope_theta"], bare["max_position_embeddings"]
    config = configure(bare)
    assert (config.ropes[0].theta, config.context) == (2e6, 32_768)


@pytest.mark.parametrize("layers", [[1, 0], [1, 2] * 18, "1110" * 9])
def test_a_list_of_positions_that_fits_no_layers_is_refused(layers: object) -> None:
    with pytest.raises(ConfigError, match="no_rope_layers is"):
        configure(PUBLISHED | {"no_rope_layers": layers})


def test_windows_that_are_switched_off_are_refused() -> None:
    with pytest.raises(ConfigError, match="layer_types is"):
        configure(PUBLISHED | {"layer_types": [FULL, SLIDING] * 18, "sliding_window": 128})


def test_neighbours_are_refused() -> None:
    with pytest.raises(ConfigError, match="rope_interleaved is True"):
        configure(PUBLISHED | {"rope_interleaved": True})
