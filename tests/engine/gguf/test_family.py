"""What all families' files have alike."""

from dataclasses import replace
from typing import Any

import pytest

from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.gguf.container import Gguf, read_gguf
from bessemer.engine.gguf.families import FAMILIES
from bessemer.engine.gguf.family import (
    Change,
    by_layer,
    has,
    key_heads,
    layer_count,
    layers_with,
    needed,
    scaling,
)

from .make_golden import GOLDEN


def test_layers_are_those_that_are_run() -> None:
    gguf = read_gguf(GOLDEN / "glm4_moe.gguf")
    assert gguf.value("block_count") == 3
    assert layer_count(gguf) == FAMILIES["glm4moe"].config(gguf)["num_hidden_layers"] == 2


def test_a_list_with_a_number_for_each_layer_says_one() -> None:
    gguf = read_gguf(GOLDEN / "lfm2.gguf")
    assert gguf.value("attention.head_count_kv") == [0, 2, 0]
    assert key_heads(gguf) == FAMILIES["lfm2"].config(gguf)["num_key_value_heads"] == 2


def test_a_tensor_that_some_layers_have() -> None:
    gguf = read_gguf(GOLDEN / "lfm2.gguf")
    assert layers_with(gguf, "attn_q.weight") == [False, True, False]
    assert has(gguf, "attn_q.weight") and not has(gguf, "attn_qkv.weight")


@pytest.mark.parametrize(
    ("family", "name", "places"),
    [
        ("llama", "attn_q.weight", ["self_attn.q_proj.weight"]),
        ("llama", "output.weight", ["lm_head.weight"]),
        ("gpt-oss", "attn_sinks.weight", ["self_attn.sinks"]),
        ("mamba2", "ssm_a", ["mixer.A_log"]),
        ("mamba2", "ssm_dt.bias", ["mixer.dt_bias"]),
        (
            "qwen3next",
            "ssm_ba.weight",
            ["linear_attn.in_proj_b.weight", "linear_attn.in_proj_a.weight"],
        ),
    ],
)
def test_names_of_tensors(family: str, name: str, places: list[str]) -> None:
    sources = FAMILIES[family].sources(name)
    assert sources is not None and [place for place, _ in sources] == places


@pytest.mark.parametrize(
    ("family", "name", "changes"),
    [
        ("llama", "attn_q.weight", ("paired",)),
        ("llama", "attn_k.weight", ("paired_keys",)),
        ("llama", "attn_v.weight", ()),
        ("gemma", "attn_norm.weight", ("shifted",)),
        ("gemma", "attn_q.weight", ()),
        ("mamba2", "attn_norm.weight", ()),
        ("mamba2", "ssm_norm.weight", ("flat",)),
        ("mamba2", "ssm_a", ("flat", "decay")),
        ("lfm2", "shortconv.conv.weight", ("convolution",)),
    ],
)
def test_what_the_converter_did_to_tensors(
    family: str, name: str, changes: tuple[Change, ...]
) -> None:
    sources = FAMILIES[family].sources(name)
    assert sources is not None and [each for _, each in sources] == [changes]


def test_an_unknown_tensor_has_no_name() -> None:
    assert FAMILIES["llama"].sources("ssm_a") is None
    assert FAMILIES["llama"].sources("attn_quux.weight") is None


def test_positions_that_are_not_stretched() -> None:
    gguf = read_gguf(GOLDEN / "qwen3.gguf")
    assert "rope_scaling" in _config(gguf)
    for factor in (1.0, 0.0, None):
        assert "rope_scaling" not in _config(gguf, **{"rope.scaling.factor": factor})
    assert "rope_scaling" not in _config(gguf, **{"rope.scaling.type": "none"})


def _said(gguf: Gguf, **values: object) -> Gguf:
    metadata = {**gguf.metadata, **{f"qwen3.{name}": value for name, value in values.items()}}
    return replace(gguf, metadata=metadata)


def _config(gguf: Gguf, **values: object) -> dict[str, object]:
    return FAMILIES["qwen3"].config(_said(gguf, **values))


# What transformers computes of the golden files' configs.
LLAMA3_FACTORS = [1.5707963705, 4.0, 4.0, 4.0]


@pytest.mark.parametrize(
    ("name", "table"),
    [
        (
            "phi3",
            {
                "long_factor": [1.0, 1.5, 2.5, 4.0],
                "short_factor": [1.0, 1.1, 1.3, 1.6],
                "original_max_position_embeddings": 16,
                "attention_factor": 1.3228756,
            },
        ),
        (
            "llama",
            {
                "long_factor": LLAMA3_FACTORS,
                "short_factor": LLAMA3_FACTORS,
                "original_max_position_embeddings": 128,
                "attention_factor": 1.0,
            },
        ),
    ],
)
def test_factors_of_each_angle(name: str, table: dict[str, Any]) -> None:
    said = scaling(read_gguf(GOLDEN / f"{name}.gguf"))["rope_scaling"]
    assert said.pop("rope_type") == "longrope"
    assert {key: pytest.approx(value) for key, value in table.items()} == said


def test_as_many_layers_as_a_file_may_have() -> None:
    gguf = read_gguf(GOLDEN / "qwen3.gguf")
    most = len(gguf.tensors)
    assert layer_count(_said(gguf, block_count=None)) == 0
    assert layer_count(_said(gguf, block_count=most)) == most
    with pytest.raises(CheckpointError, match="has too few tensors for"):
        layer_count(_said(gguf, block_count=most + 1))


@pytest.mark.parametrize(
    ("values", "lacking"),
    [
        ([3, 4], None),
        ([3, 4, 5], None),
        ([3], "feed_forward_length for each layer"),
        (7, "feed_forward_length for each layer"),
        (None, "feed_forward_length"),
    ],
)
def test_a_number_for_each_layer(values: Any, lacking: str | None) -> None:
    gguf = _said(read_gguf(GOLDEN / "qwen3.gguf"), feed_forward_length=values)
    if lacking is None:
        assert by_layer(gguf, "feed_forward_length") == values
    else:
        with pytest.raises(CheckpointError, match=rf"lacks the field qwen3\.{lacking}; fetch"):
            by_layer(gguf, "feed_forward_length")


@pytest.mark.parametrize(
    ("value", "one"), [(4, 4), ([0, 4, 4], 4), (None, 0), (0, 0), ([0, 0], 0), ([3, 4], 0)]
)
def test_a_number_that_is_needed(value: Any, one: int) -> None:
    gguf = _said(read_gguf(GOLDEN / "qwen3.gguf"), feed_forward_length=value)
    if one:
        assert needed(gguf, "feed_forward_length") == one
    else:
        with pytest.raises(
            CheckpointError, match=r"lacks the field qwen3\.feed_forward_length; fetch"
        ):
            needed(gguf, "feed_forward_length")


def test_heads_of_keys() -> None:
    gguf = read_gguf(GOLDEN / "qwen3.gguf")
    assert (gguf.value("attention.head_count"), key_heads(gguf)) == (4, 2)
    assert key_heads(_said(gguf, **{"attention.head_count_kv": None})) == 4
    with pytest.raises(CheckpointError, match="has layers of unlike heads"):
        key_heads(_said(gguf, **{"attention.head_count_kv": [2, 4]}))


def test_a_vocabulary_has_a_row_for_each_token() -> None:
    assert _config(read_gguf(GOLDEN / "qwen3.gguf"))["vocab_size"] == 48
