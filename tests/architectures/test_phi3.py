"""Phi 3 against transformers, and quantized against mlx_lm."""

from typing import Any

import pytest

from bessemer.architectures.config import ConfigError, Paged
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, Case

PHI3 = BASE | {"model_type": "phi3", "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SHORT, LONG = [1.0, 1.1, 1.3, 1.6, 2.0, 2.5, 3.0, 3.5], [1.0, 1.5, 2.5, 4.0, 6.0, 9.0, 12.0, 16.0]
ORIGINAL = "original_max_position_embeddings"


class TestPhi3(Parity):
    """Some prompts are longer than 40 and than 64 tokens, none is than 100."""

    family = "phi3"
    cases = {
        "longrope_partial_tied": Case(
            PHI3
            | {
                "hidden_size": 48,
                "num_attention_heads": 3,
                "num_key_value_heads": 1,
                "partial_rotary_factor": 0.75,
                "tie_word_embeddings": True,
                ORIGINAL: 40,
                "rope_scaling": {
                    "type": "longrope",
                    "short_factor": SHORT[:6],
                    "long_factor": LONG[:6],
                },
            },
            {
                "rms_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "max_position_embeddings": 1024,
                ORIGINAL: 80,
                "rope_scaling.long_factor": [*LONG[:5], 10.0],
                "rope_scaling": None,
            },
        ),
        "su_window": Case(
            PHI3
            | {
                "sliding_window": 20,
                ORIGINAL: 100,
                "rope_scaling": {
                    "type": "su",
                    "short_factor": SHORT,
                    "long_factor": LONG,
                    "attention_factor": 1.4,
                    ORIGINAL: 100,
                },
            },
            {
                "sliding_window": 21,
                ORIGINAL: 50,
                "rope_scaling.short_factor": [*SHORT[:7], 4.5],
                "rope_scaling.attention_factor": 1.5,
            },
        ),
        "newer_spelling": Case(
            {name: value for name, value in PHI3.items() if name != "rope_theta"}
            | {
                ORIGINAL: 64,
                "rope_parameters": {
                    "rope_type": "longrope",
                    "rope_theta": 1000.0,
                    "partial_rotary_factor": 0.5,
                    "short_factor": SHORT[:4],
                    "long_factor": LONG[:4],
                    "factor": 32.0,
                },
            },
            {
                "rope_parameters.rope_theta": 1300.0,
                "rope_parameters.factor": 2.0,
                "rope_parameters.long_factor": [*LONG[:3], 5.0],
            },
        ),
        "affine": Case(
            PHI3
            | {
                "num_key_value_heads": 1,
                ORIGINAL: 2,  # mlx_lm takes the long factors for short sequences too
                "rope_scaling": {"type": "longrope", "short_factor": SHORT, "long_factor": LONG},
                "quantization": {"group_size": 32, "bits": 4},
            },
            {"rms_norm_eps": 0.01, "rope_scaling.long_factor": [*LONG[:5], 10.0, 15.0, 18.0]},
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[str, Any] = {  # microsoft/Phi-3-mini-4k-instruct
    "_name_or_path": "Phi-3-mini-4k-instruct",
    "architectures": ["Phi3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {
        "AutoConfig": "configuration_phi3.Phi3Config",
        "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM",
    },
    "bos_token_id": 1,
    "embd_pdrop": 0.0,
    "eos_token_id": 32000,
    "hidden_act": "silu",
    "hidden_size": 3072,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "max_position_embeddings": 4096,
    "model_type": "phi3",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "original_max_position_embeddings": 4096,
    "pad_token_id": 32000,
    "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "sliding_window": 2047,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.40.2",
    "use_cache": True,
    "vocab_size": 32064,
}
PHI4_MINI = PUBLISHED | {  # microsoft/Phi-4-mini-instruct, but for the digits of its 48 divisors
    "bos_token_id": 199999,
    "eos_token_id": 199999,
    "full_attn_mod": 1,
    "interpolate_factor": 1,
    "lm_head_bias": False,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "pad_token_id": 199999,
    "partial_rotary_factor": 0.75,
    "rope_scaling": {
        "long_factor": [1.0] * 24 + [32.0] * 24,
        "short_factor": [1.0] * 48,
        "type": "longrope",
    },
    "sliding_window": 262144,
    "tie_word_embeddings": True,
    "transformers_version": "4.45.0",
    "vocab_size": 200064,
}


def test_published_configs() -> None:
    mini, four = configure(PUBLISHED), configure(PHI4_MINI)
    assert mini.caches == (Paged(32, 96, 96, 2047),) * 32
    assert (mini.ropes[0].kind, mini.ropes[0].dims) == ("default", 96)
    assert four.caches == (Paged(8, 128, 128),) * 32
    rope = four.ropes[0]
    assert (rope.kind, rope.dims, rope.original_context) == ("longrope", 96, 4096)
    assert rope.attention_factor == pytest.approx(1.1902380714)
    assert four.tied


def test_parts_of_phi_4_that_no_published_model_has_are_refused() -> None:
    with pytest.raises(ConfigError, match="full_attn_mod is 2"):
        configure(PHI4_MINI | {"full_attn_mod": 2})


def test_divisors_need_an_original_context_beyond_one_token() -> None:
    for scaling in ({}, {ORIGINAL: 1}):
        config = PHI4_MINI | {ORIGINAL: 1, "rope_scaling": PHI4_MINI["rope_scaling"] | scaling}
        with pytest.raises(ConfigError, match=f"{ORIGINAL} is 1"):
            configure(config)


def test_defaults_are_those_of_transformers() -> None:
    left = ("original_max_position_embeddings", "max_position_embeddings", "rms_norm_eps")
    bare = {name: value for name, value in PUBLISHED.items() if name not in left}
    assert configure(bare) == configure(PUBLISHED)
    scaled = {"max_position_embeddings": 8192, "rope_scaling": PHI4_MINI["rope_scaling"]}
    config = configure(PHI4_MINI | scaled | {"original_max_position_embeddings": 4096})
    bare = {name: value for name, value in PHI4_MINI.items() if name not in left[:1]}
    assert configure(bare | scaled) == config
