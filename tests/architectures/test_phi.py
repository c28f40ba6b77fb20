"""Phi 1 and 2 against transformers, and quantized against mlx_lm."""

from typing import Any

import pytest

from bessemer.architectures.config import PARALLEL, ConfigError, Paged
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, Case

PHI = BASE | {"model_type": "phi", "hidden_act": "gelu_new", "layer_norm_eps": 0.02}
del PHI["rms_norm_eps"]


class TestPhi(Parity):
    family = "phi"
    cases = {
        "half": Case(
            PHI | {"num_key_value_heads": None},
            {
                "layer_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "partial_rotary_factor": 0.25,
                "hidden_act": "silu",
            },
        ),
        "mqa_part_linear_tied": Case(
            PHI
            | {
                "hidden_size": 60,
                "num_attention_heads": 3,
                "num_key_value_heads": 1,
                "partial_rotary_factor": 0.4,
                "tie_word_embeddings": True,
                "hidden_act": "gelu",
                "rope_scaling": {"type": "linear", "factor": 2.0},
            },
            {
                "layer_norm_eps": 0.01,
                "partial_rotary_factor": 0.5,
                "rope_scaling.factor": 3.0,
            },
        ),
        "affine": Case(
            PHI | {"partial_rotary_factor": 0.5, "quantization": {"group_size": 32, "bits": 6}},
            {"layer_norm_eps": 0.01, "rope_theta": 1300.0, "partial_rotary_factor": 0.25},
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[str, Any] = {  # microsoft/phi-2
    "_name_or_path": "microsoft/phi-2",
    "architectures": ["PhiForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 50256,
    "embd_pdrop": 0.0,
    "eos_token_id": 50256,
    "hidden_act": "gelu_new",
    "hidden_size": 2560,
    "initializer_range": 0.02,
    "intermediate_size": 10240,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 2048,
    "model_type": "phi",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "partial_rotary_factor": 0.4,
    "qk_layernorm": False,
    "resid_pdrop": 0.1,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.37.0",
    "use_cache": True,
    "vocab_size": 51200,
}


def test_a_published_config() -> None:
    config = configure(PUBLISHED)
    assert config.caches == (Paged(32, 80, 80),) * 32
    assert (config.ropes[0].dims, config.head_bias, config.norm.kind) == (32, True, "layer")
    assert all(block.names == PARALLEL for block in config.blocks)


def test_normalised_queries_are_refused() -> None:
    with pytest.raises(ConfigError, match="qk_layernorm is True"):
        configure(PUBLISHED | {"qk_layernorm": True})


def test_defaults_are_those_of_transformers() -> None:
    left = ("hidden_act", "layer_norm_eps", "num_key_value_heads", "max_position_embeddings")
    bare = {name: value for name, value in PUBLISHED.items() if name not in left}
    assert configure(bare) == configure(PUBLISHED)
    half = {name: value for name, value in bare.items() if name != "partial_rotary_factor"}
    assert configure(half).ropes[0].dims == 40
