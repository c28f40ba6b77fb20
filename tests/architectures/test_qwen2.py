"""Qwen 2 against transformers, and quantized against mlx_lm."""

from typing import Any

from bessemer.architectures.config import AttentionConfig, BlockConfig, Rope
from bessemer.architectures.feed_forward_config import MlpConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, YARN, Case

QWEN2 = BASE | {"model_type": "qwen2"}


class TestQwen2(Parity):
    family = "qwen2"
    cases = {
        "window_from_layer_tied": Case(
            QWEN2
            | {
                "num_hidden_layers": 3,
                "use_sliding_window": True,
                "sliding_window": 17,
                "max_window_layers": 1,
                "tie_word_embeddings": True,
            },
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "use_sliding_window": False,
                "sliding_window": 18,
                "max_window_layers": 2,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            },
        ),
        "mha_yarn": Case(
            QWEN2
            | {
                "num_key_value_heads": 4,
                "rope_scaling": YARN | {"beta_fast": 16.0, "beta_slow": 2.0},
            },
            {
                "rms_norm_eps": 0.01,
                "rope_scaling.factor": 5.0,
                "rope_scaling.beta_fast": 2.5,
                "rope_scaling.beta_slow": 0.5,
            },
        ),
        "affine": Case(
            QWEN2
            | {
                "num_key_value_heads": 1,
                "tie_word_embeddings": True,
                "quantization": {"group_size": 32, "bits": 8},
            },
            {"rms_norm_eps": 0.01, "rope_theta": 1300.0},
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[str, Any] = {  # Qwen/Qwen2.5-0.5B-Instruct
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "hidden_size": 896,
    "initializer_range": 0.02,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "model_type": "qwen2",
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.43.1",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}


def test_a_published_config() -> None:
    config = configure(PUBLISHED)
    mixer = AttentionConfig(14, 2, 64, 64**-0.5, Rope(64, 1e6), bias=True)
    assert config.blocks == (BlockConfig(mixer, MlpConfig(4864)),) * 24
    assert config.tied
