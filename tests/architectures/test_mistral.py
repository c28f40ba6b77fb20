"""Mistral and Ministral against transformers, and quantized against mlx_lm."""

from typing import Any

from bessemer.architectures.config import Paged, Rope
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, YARN, Case

MISTRAL = BASE | {"model_type": "mistral"}
FULL, SLIDING = "full_attention", "sliding_attention"
MINISTRAL = BASE | {
    "model_type": "ministral",
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "sliding_window": 15,
}


class TestMistral(Parity):
    family = "mistral"
    cases = {
        "window_wide_head": Case(
            MISTRAL | {"head_dim": 24, "sliding_window": 20},
            {"rms_norm_eps": 0.01, "rope_theta": 1300.0, "sliding_window": 21},
        ),
        "mha_yarn_tied": Case(
            MISTRAL
            | {
                "num_key_value_heads": 4,
                "sliding_window": None,
                "tie_word_embeddings": True,
                "rope_scaling": YARN | {"mscale": 1.5, "mscale_all_dim": 0.5},
            },
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "sliding_window": 40,
                "rope_scaling": None,
                "rope_scaling.factor": 5.0,
                "rope_scaling.mscale": 1.6,
                "rope_scaling.mscale_all_dim": 0.6,
                "rope_scaling.original_max_position_embeddings": 128,
            },
        ),
        "ministral_by_layer": Case(
            MINISTRAL | {"head_dim": 20, "layer_types": [SLIDING, FULL, SLIDING]},
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "sliding_window": 16,
                "layer_types": [SLIDING, SLIDING, FULL],
            },
        ),
        "ministral_all_slide": Case(MINISTRAL | {"head_dim": 16}, {"sliding_window": None}),
        "affine": Case(
            MISTRAL
            | {
                "head_dim": 32,
                "sliding_window": 20,
                "layer_types": [FULL, SLIDING],
                "quantization": {"group_size": 32, "bits": 4},
            },
            {"sliding_window": 21, "layer_types": [SLIDING, FULL]},
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[str, Any] = {  # mistralai/Mistral-7B-v0.1
    "architectures": ["MistralForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "mistral",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.34.0.dev0",
    "use_cache": True,
    "vocab_size": 32000,
}
NEMO = PUBLISHED | {  # mistralai/Mistral-Nemo-Instruct-2407
    "attention_dropout": 0.0,
    "head_dim": 128,
    "hidden_size": 5120,
    "max_position_embeddings": 131072,
    "num_hidden_layers": 40,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "vocab_size": 131072,
}


def test_published_configs() -> None:
    first, nemo = configure(PUBLISHED), configure(NEMO)
    assert first.caches == (Paged(8, 128, 128, 4096),) * 32
    assert nemo.caches == (Paged(8, 128, 128),) * 40
    assert (nemo.ropes, nemo.norm.eps) == ((Rope(128, 1e6),), 1e-5)


def test_a_mistral_with_kinds_of_layers_is_a_ministral() -> None:
    """Transformers takes Ministral-8B-Instruct-2410 so, which was published as a Mistral."""
    kinds = {"num_hidden_layers": 4, "layer_types": [FULL, SLIDING, SLIDING, FULL]}
    config = configure(PUBLISHED | kinds)
    assert config.windows == (None, 4096)
    assert config.blocks == configure(PUBLISHED | kinds | {"model_type": "ministral"}).blocks
