"""Command R7B against transformers, and quantized against mlx_lm."""

from typing import Any

import pytest

from bessemer.architectures.config import PARALLEL, AttentionConfig, ConfigError
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, Case

FULL, SLIDING = "full_attention", "sliding_attention"
COHERE2 = BASE | {
    "model_type": "cohere2",
    "num_hidden_layers": 4,
    "head_dim": 16,
    "layer_norm_eps": 0.02,
    "logit_scale": 0.7,
    "sliding_window": 20,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
del COHERE2["rms_norm_eps"]


class TestCohere2(Parity):
    family = "cohere2"
    cases = {
        "pattern": Case(
            COHERE2,
            {
                "layer_norm_eps": 0.01,
                "rope_theta": 1300.0,
                "logit_scale": 0.5,
                "sliding_window": 8,
                "sliding_window_pattern": 2,
            },
        ),
        "mqa_kinds_biased_untied": Case(
            COHERE2
            | {
                "hidden_size": 48,
                "num_hidden_layers": 3,
                "num_attention_heads": 3,
                "num_key_value_heads": 1,
                "attention_bias": True,
                "hidden_act": "gelu",
                "tie_word_embeddings": False,
                "layer_types": [FULL, SLIDING, FULL],
                "rope_scaling": {"type": "linear", "factor": 2.0},
            },
            {
                "layer_norm_eps": 0.01,
                "hidden_act": "silu",
                "layer_types": [FULL, SLIDING, SLIDING],
                "rope_scaling.factor": 3.0,
            },
        ),
        # A window as long as the context is none, and yet its layers turn what they compare.
        "wide_window": Case(
            COHERE2 | {"num_hidden_layers": 2, "sliding_window": 256},
            {"sliding_window": 20, "rope_theta": 1300.0, "layer_types": [FULL, FULL]},
        ),
        "affine": Case(
            COHERE2 | {"sliding_window_pattern": 2, "quantization": {"group_size": 32, "bits": 4}},
            {"layer_norm_eps": 0.01, "rope_theta": 1300.0, "sliding_window": 8},
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[str, Any] = {  # CohereForAI/c4ai-command-r7b-12-2024
    "architectures": ["Cohere2ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 5,
    "cache_implementation": "hybrid",
    "eos_token_id": 255001,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "layer_norm_eps": 1e-05,
    "layer_switch": 4,
    "logit_scale": 0.25,
    "max_position_embeddings": 8192,
    "model_type": "cohere2",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "order_of_interleaved_layers": "local_attn_first",
    "pad_token_id": 0,
    "position_embedding_type": "rope_gptj",
    "rope_scaling": None,
    "rope_theta": 50000,
    "rotary_pct": 1.0,
    "sliding_window": 4096,
    "sliding_window_pattern": 4,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.48.0.dev0",
    "use_cache": True,
    "use_embedding_sharing": True,
    "use_gated_activation": True,
    "use_parallel_block": True,
    "use_parallel_embedding": True,
    "vocab_size": 256000,
}


def test_a_published_config() -> None:
    config = configure(PUBLISHED)
    assert {block.names for block in config.blocks} == {PARALLEL}
    mixers = [block.mixer for block in config.blocks[:4]]
    layers = [(m.window, m.rope is None) for m in mixers if isinstance(m, AttentionConfig)]
    assert layers == [(4096, False)] * 3 + [(None, True)]
    assert (config.logit_scale, config.tied, config.norm.kind) == (0.25, True, "layer")


def test_a_config_as_saved_again() -> None:
    """transformers 4.5x adds the list of kinds, and the pattern under another name."""
    again = {"layer_types": ([SLIDING] * 3 + [FULL]) * 8, "_sliding_window_pattern": 4}
    assert configure(PUBLISHED | again) == configure(PUBLISHED)


def test_defaults_are_those_of_transformers() -> None:
    left = ("head_dim", "sliding_window", "sliding_window_pattern", "layer_norm_eps")
    bare = {name: value for name, value in PUBLISHED.items() if name not in left}
    assert configure(bare) == configure(PUBLISHED)
    del bare["rope_theta"], bare["logit_scale"]
    config = configure(bare)
    assert (config.ropes[0].theta, config.logit_scale) == (10_000.0, 0.0625)


@pytest.mark.parametrize(
    "other",
    [
        {"head_dim": 64},
        {"order_of_interleaved_layers": "global_attn_first"},
        {"position_embedding_type": "rope_neox"},
        {"rotary_pct": 0.5},
        {"sliding_window": None},
        {"use_parallel_block": False},
    ],
)
def test_what_is_not_built_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(other))):
        configure(PUBLISHED | other)
