"""What all families' files have alike."""

from dataclasses import replace

import pytest

from bessemer.engine.gguf.container import Gguf, read_gguf
from bessemer.engine.gguf.families import FAMILIES
from bessemer.engine.gguf.family import Change, has, key_heads, layer_count, layers_with

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


def _config(gguf: Gguf, **values: object) -> dict[str, object]:
    metadata = {**gguf.metadata, **{f"qwen3.{name}": value for name, value in values.items()}}
    return FAMILIES["qwen3"].config(replace(gguf, metadata=metadata))
