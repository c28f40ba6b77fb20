"""Command R against transformers, and quantized against mlx_lm."""

from typing import Any

from bessemer.architectures.config import PARALLEL, AttentionConfig, NormConfig
from bessemer.architectures.registry import configure

from .parity import Parity
from .tiny import BASE, Case

COHERE = BASE | {
    "model_type": "cohere",
    "layer_norm_eps": 0.02,
    "logit_scale": 0.7,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
del COHERE["rms_norm_eps"]


class TestCohere(Parity):
    family = "cohere"
    cases = {
        "plain": Case(
            COHERE,
            {"layer_norm_eps": 0.01, "rope_theta": 1300.0, "logit_scale": 0.5},
        ),
        "mqa_normed_biased_untied": Case(
            COHERE
            | {
                "hidden_size": 48,
                "num_attention_heads": 3,
                "num_key_value_heads": 1,
                "use_qk_norm": True,
                "attention_bias": True,
                "hidden_act": "gelu",
                "tie_word_embeddings": False,
                "rope_scaling": {"type": "linear", "factor": 2.0},
            },
            {"layer_norm_eps": 0.01, "hidden_act": "silu", "rope_scaling.factor": 3.0},
        ),
        "affine": Case(
            COHERE | {"use_qk_norm": True, "quantization": {"group_size": 32, "bits": 4}},
            {"layer_norm_eps": 0.01, "rope_theta": 1300.0, "logit_scale": 0.5},
            source="mlx_lm",
        ),
    }


PUBLISHED: dict[str, Any] = {  # CohereForAI/c4ai-command-r-v01
    "architectures": ["CohereForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 5,
    "eos_token_id": 255001,
    "hidden_act": "silu",
    "hidden_size": 8192,
    "initializer_range": 0.02,
    "intermediate_size": 22528,
    "layer_norm_eps": 1e-05,
    "logit_scale": 0.0625,
    "max_position_embeddings": 8192,
    "model_max_length": 131072,
    "model_type": "cohere",
    "num_attention_heads": 64,
    "num_hidden_layers": 40,
    "num_key_value_heads": 64,
    "pad_token_id": 0,
    "pretraining_tp": 1,
    "rope_theta": 8000000.0,
    "torch_dtype": "float16",
    "transformers_version": "4.38.2",
    "use_cache": True,
    "vocab_size": 256000,
}
# What CohereForAI/c4ai-command-r-plus has in other values.
PLUS = {
    "hidden_size": 12288,
    "intermediate_size": 33792,
    "logit_scale": 0.8333333333333334,
    "num_attention_heads": 96,
    "num_hidden_layers": 64,
    "num_key_value_heads": 8,
    "rope_theta": 75000000.0,
    "use_qk_norm": True,
}


def test_published_configs() -> None:
    plain, plus = configure(PUBLISHED), configure(PUBLISHED | PLUS)
    assert {block.names for block in plain.blocks} == {PARALLEL}
    assert (plain.norm, plain.tied) == (NormConfig(1e-5, "layer"), True)
    assert (plain.logit_scale, plus.logit_scale) == (0.0625, 0.8333333333333334)
    norms = [config.blocks[0].mixer for config in (plain, plus)]
    assert all(isinstance(each, AttentionConfig) and each.interleaved for each in norms)
    assert [each.qk_norm for each in norms if isinstance(each, AttentionConfig)] == [
        None,
        "centred",
    ]


def test_defaults_are_those_of_transformers() -> None:
    left = ("layer_norm_eps", "logit_scale", "num_key_value_heads", "max_position_embeddings")
    bare = {name: value for name, value in PUBLISHED.items() if name not in left}
    assert configure(bare) == configure(PUBLISHED)
    del bare["rope_theta"]
    assert configure(bare).ropes[0].theta == 500_000.0
