"""Each config field that matters moves the logits: a feature left out cannot pass for parity."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bessemer.architectures.config import ModelConfig
from bessemer.architectures.decoder import Decoder
from bessemer.architectures.registry import configure
from bessemer.engine.checkpoint import open_checkpoint
from bessemer.engine.model import Model
from bessemer.engine.weights import Weights

from .steps import prefill
from .tiny import CONFIGS, Floats, Tiny, prompts, tensor, tensors

MOVED = 1e-2
LLAMA, LINEAR = "llama_gqa_llama3", "llama_mqa_linear_biased_tied"
MISTRAL, MISTRAL_YARN = "mistral_window_wide_head", "mistral_mha_yarn_tied"
QWEN2, QWEN2_YARN = "qwen2_window_from_layer_tied", "qwen2_mha_yarn"
MOE, MOE_ONE = "qwen3_moe_normalised", "qwen3_moe_one_expert_some_dense"
QWEN3, QWEN3_YARN = "qwen3_layer_types_tied", "qwen3_mqa_yarn_biased"

FIELDS: list[tuple[str, str, Any]] = [
    *((name, "rms_norm_eps", 0.01) for name in CONFIGS),
    *((name, "rope_theta", 1300.0) for name in (LLAMA, MISTRAL, MISTRAL_YARN, QWEN2, QWEN3)),
    (LLAMA, "rope_scaling", None),
    (LLAMA, "rope_scaling.factor", 5.0),
    (LLAMA, "rope_scaling.low_freq_factor", 1.2),
    (LLAMA, "rope_scaling.high_freq_factor", 5.0),
    (LLAMA, "rope_scaling.original_max_position_embeddings", 80),
    (LINEAR, "rope_parameters.factor", 3.5),
    (LINEAR, "rope_parameters.rope_theta", 600.0),
    (LINEAR, "rope_parameters.rope_type", "default"),
    (MISTRAL, "sliding_window", 21),
    (MISTRAL, "sliding_window", None),
    (MISTRAL_YARN, "sliding_window", 40),
    (MISTRAL_YARN, "rope_scaling", None),
    (MISTRAL_YARN, "rope_scaling.factor", 5.0),
    (MISTRAL_YARN, "rope_scaling.mscale", 1.6),
    (MISTRAL_YARN, "rope_scaling.mscale_all_dim", 0.6),
    (MISTRAL_YARN, "rope_scaling.original_max_position_embeddings", 128),
    (QWEN2, "use_sliding_window", False),
    (QWEN2, "sliding_window", 18),
    (QWEN2, "max_window_layers", 0),
    (QWEN2, "max_window_layers", 2),
    (QWEN2_YARN, "rope_scaling.beta_fast", 2.5),
    (QWEN2_YARN, "rope_scaling.beta_slow", 0.5),
    (QWEN3, "layer_types", ["full_attention", "full_attention", "sliding_attention"]),
    (QWEN3, "layer_types", ["full_attention", "sliding_attention", "sliding_attention"]),
    (QWEN3_YARN, "rope_parameters.attention_factor", 1.4),
    (QWEN3_YARN, "rope_parameters.truncate", True),
    (QWEN3_YARN, "rope_parameters.rope_theta", 2500.0),
    (MOE, "norm_topk_prob", False),
    (MOE, "num_experts_per_tok", 3),
    (MOE_ONE, "norm_topk_prob", True),
]

# What a forgetful implementation would do, said in our own config.
FORGOTTEN: list[tuple[str, dict[str, Any]]] = [
    (LINEAR, {"qkv_bias": False}),
    (LINEAR, {"output_bias": False}),
    (LINEAR, {"mlp_bias": False}),
    (QWEN2, {"qkv_bias": False}),
    (QWEN3, {"qk_norm": False}),
    (QWEN3_YARN, {"qkv_bias": False}),
    (QWEN3_YARN, {"output_bias": False}),
    (QWEN3_YARN, {"qk_norm": False}),
    (LLAMA, {"heads": 8, "kv_heads": 4, "head_dim": 8}),
    (MISTRAL, {"heads": 8, "kv_heads": 4, "head_dim": 12}),
]


def decoder_of(path: Path, **changes: Any) -> Model:
    """Tolerates tensors left over, as a forgetful implementation would."""
    checkpoint = open_checkpoint(path)
    config: ModelConfig = replace(configure(checkpoint.config), **changes)
    weights = Weights(checkpoint, config, exact=True)
    return Model(config, Decoder.load(config, weights), weights.bytes)


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    root = tmp_path_factory.mktemp("sensitivity")
    return lambda config, arrays: Tiny(config, arrays).write(root / str(len(list(root.iterdir()))))


@pytest.fixture(scope="module")
def plain(write: Callable[..., Path]) -> dict[str, tuple[Path, Floats]]:
    out = {}
    for name, config in CONFIGS.items():
        path = write(config, tensors(config))
        out[name] = (path, prefill(decoder_of(path), prompts()[0]))
    return out


def moved(model: Model, before: Floats) -> float:
    return float(np.abs(prefill(model, prompts()[0]) - before).max())


def changed(config: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    name, _, inner = field.partition(".")
    return config | {name: config[name] | {inner: value} if inner else value}


@pytest.mark.parametrize(("name", "field", "value"), FIELDS)
def test_a_field_of_the_config(
    name: str,
    field: str,
    value: Any,
    write: Callable[..., Path],
    plain: dict[str, tuple[Path, Floats]],
) -> None:
    config = changed(CONFIGS[name], field, value)
    assert moved(decoder_of(write(config, tensors(CONFIGS[name]))), plain[name][1]) > MOVED


@pytest.mark.parametrize(("name", "changes"), FORGOTTEN)
def test_a_forgotten_feature(
    name: str, changes: dict[str, Any], plain: dict[str, tuple[Path, Floats]]
) -> None:
    path, before = plain[name]
    assert moved(decoder_of(path, **changes), before) > MOVED


@pytest.mark.parametrize("name", [LLAMA, MISTRAL, QWEN3])
def test_the_grouping_of_heads(
    name: str, write: Callable[..., Path], plain: dict[str, tuple[Path, Floats]]
) -> None:
    """Key-value heads in another order are other heads to their queries."""
    config, arrays = CONFIGS[name], tensors(CONFIGS[name])
    for tensor_name, values in arrays.items():
        if tensor_name.endswith(("k_proj.weight", "v_proj.weight")):
            heads = values.reshape(config["num_key_value_heads"], -1, values.shape[1])
            arrays[tensor_name] = np.ascontiguousarray(heads[::-1].reshape(values.shape))
    assert moved(decoder_of(write(config, arrays)), plain[name][1]) > MOVED


@pytest.mark.parametrize("name", [QWEN2, MISTRAL_YARN, LINEAR, QWEN3])
def test_a_tied_head(
    name: str, write: Callable[..., Path], plain: dict[str, tuple[Path, Floats]]
) -> None:
    config = CONFIGS[name] | {"tie_word_embeddings": False}
    shape = (config["vocab_size"], config["hidden_size"])
    arrays = tensors(CONFIGS[name]) | {"lm_head.weight": tensor("lm_head.weight", shape)}
    path, before = write(config, arrays), plain[name][1]
    assert moved(decoder_of(path), before) > MOVED
    # The same files with the head tied: the stored head is not used.
    tied = write(CONFIGS[name], arrays)
    assert moved(decoder_of(tied), before) == 0
