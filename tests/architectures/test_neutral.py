"""Fields that nobody reads: which may be there, and with which values."""

import json
from pathlib import Path
from typing import Any

import pytest

from bessemer.architectures import encoder_config
from bessemer.architectures.config import ConfigError
from bessemer.architectures.neutral import HARMLESS, NEUTRAL, is_neutral
from bessemer.architectures.registry import configure

from .tiny import BASE

FILE = Path(__file__).parent / "transformers_defaults.json"
DEFAULTS: dict[str, dict[str, Any]] = json.loads(FILE.read_text())
LLAMA = BASE | {"model_type": "llama"}
# What transformers' defaults leave undefined: how many experts a token has, or a head's size.
UNDEFINED = {"deepseek_v2": {"num_experts_per_tok": 6}, "glm4_moe": {"head_dim": 128}}
MAY_BE: dict[str, list[Any]] = {
    "attention_dropout": [0.1],
    "activation_dropout": [0.1],
    "resid_pdrop": [0.1],
    "classifier_dropout_prob": [0.1],
    "bos_token_id": [1, [1, 2]],
    "image_token_index": [7],
    "router_aux_loss_coef": [0.001],
    "initializer_range": [0.02],
    "init_std": [0.02],
    "summary_type": ["first"],
    "use_flash_attn": [True],
    "_attn_implementation": ["eager"],
    "unsloth_version": ["2025.1"],
    "tokenizer_class": ["LlamaTokenizer"],
    "torch_dtype": ["bfloat16"],
    "attention_softmax_in_fp32": [True],
    "router_dtype": ["float32"],
    "max_new_tokens": [100],
    "stop_strings": [["END"]],
    "presence_penalty": [1.0],
    "eos_token": ["</s>"],
    "finetuned": [True],
    "attn_factor": [1, 1.0],
    "logits_scaling": [1.0],
    "residual_multiplier": [1.0],
    "mlp_multipliers": [[1.0, 1.0]],
    "no_rope_layers": [[1, 1, 1]],
    "n_group": [1],
    "rotary_pct": [1.0],
    "sliding_window": [-1, None],
    "layer_types": [["full_attention", "full_attention"]],
    "scale_attn_weights": [True],
    "anything": [None, False, 0, 0.0, "", [], {}],
}
MAY_NOT_BE: dict[str, list[Any]] = {
    "attn_factor": [1.5, True, "1", [1.0, 2.0], {"a": 1}],
    "logits_scaling": [8.0, True],
    "attention_multiplier": [1.0],  # it stands in place of a scale that is not 1
    "mlp_multipliers": [[1.0, 0.5]],
    "no_rope_layers": [[1, 0, 1]],
    "n_group": [8],
    "sliding_window": [4096],
    "layer_types": [["full_attention", "sliding_attention"]],
    "scale_attn_weights": ["yes", 1],
    "num_experts_per_token": [2],
    "lambda_init": [0.8],
    "qk_norm": [True],
    "anything": [1, 1.0, True, "x", [0], {"a": 0}],
}


@pytest.mark.parametrize("name", MAY_BE)
def test_what_changes_nothing_is_neutral(name: str) -> None:
    assert all(is_neutral(name, value) for value in MAY_BE[name])
    for value in MAY_BE[name]:
        assert configure(LLAMA | {name: value}) == configure(LLAMA)


@pytest.mark.parametrize("name", MAY_NOT_BE)
def test_anything_else_is_not(name: str) -> None:
    assert not any(is_neutral(name, value) for value in MAY_NOT_BE[name])
    for value in MAY_NOT_BE[name]:
        with pytest.raises(ConfigError, match=f"{name} is .*, expected"):
            configure(LLAMA | {name: value})


def test_no_field_is_in_two_tables() -> None:
    assert not HARMLESS & set(NEUTRAL)
    assert {"architectures", "torch_dtype", "use_cache"} < HARMLESS


@pytest.mark.parametrize("model_type", DEFAULTS)
def test_what_transformers_says_by_default_is_read(model_type: str) -> None:
    """And so it is with every family's neutral values beside it."""
    raw = DEFAULTS[model_type] | UNDEFINED.get(model_type, {})
    read = encoder_config.configure if model_type in encoder_config.FAMILIES else configure
    plain = read(raw)
    beside = {"attn_factor": 1.0, "attention_probs_dropout_prob": 0.1, "router_scaling_factor": 1.0}
    assert read(beside | raw) == plain
    with pytest.raises(ConfigError, match=r"attn_factor is 2\.0, expected nothing"):
        read(raw | {"attn_factor": 2.0})
