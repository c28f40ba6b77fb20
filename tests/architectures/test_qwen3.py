"""Qwen 3 against transformers, and quantized against mlx_lm."""

from typing import Any

from bessemer.architectures.config import AttentionConfig, BlockConfig, Rope
from bessemer.architectures.feed_forward_config import MlpConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, Case

QWEN3 = BASE | {"model_type": "qwen3"}
FULL, SLIDING = "full_attention", "sliding_attention"
YARN_BIASED = QWEN3 | {
    "head_dim": 16,
    "num_key_value_heads": 1,
    "attention_bias": True,
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 2000.0,
        "factor": 8.0,
        "original_max_position_embeddings": 32,
        "attention_factor": 1.3,
        "truncate": False,
    },
}
del YARN_BIASED["rope_theta"]


class TestQwen3(Parity):
    family = "qwen3"
    cases = {
        "layer_types_tied": Case(
            QWEN3
            | {
                "num_hidden_layers": 3,
                "head_dim": 32,
                "use_sliding_window": True,
                "sliding_window": 33,
                "layer_types": [SLIDING, FULL, SLIDING],
                "tie_word_embeddings": True,
            },
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "use_sliding_window": False,
                "sliding_window": 34,
                "layer_types": [FULL, SLIDING, SLIDING],
            },
        ),
        "mqa_yarn_biased": Case(
            YARN_BIASED,
            {
                "rms_norm_eps": 0.01,
                "rope_parameters.attention_factor": 1.4,
                "rope_parameters.truncate": True,
                "rope_parameters.rope_theta": 2500.0,
            },
        ),
        "affine_tied": Case(
            QWEN3
            | {
                "intermediate_size": 128,
                "head_dim": 32,
                "tie_word_embeddings": True,
                "quantization": {"group_size": 32, "bits": 6},
            },
            {"rms_norm_eps": 0.01, "rope_theta": 1300.0},
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[str, Any] = {  # Qwen/Qwen3-0.6B
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "model_type": "qwen3",
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}


def test_a_published_config() -> None:
    config = configure(PUBLISHED)
    mixer = AttentionConfig(16, 8, 128, 128**-0.5, Rope(128, 1e6), qk_norm="head")
    assert config.blocks == (BlockConfig(mixer, MlpConfig(3072)),) * 28
    assert (config.tied, config.context) == (True, 40960)
