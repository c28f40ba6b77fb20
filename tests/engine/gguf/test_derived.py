"""Fields that follow from several of a file's, and files that lack one."""

from dataclasses import replace
from typing import Any

import pytest

from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.gguf.container import read_gguf
from bessemer.engine.gguf.families import FAMILIES

from .make_golden import BASE, GOLDEN, MODELS

# What no file says, and what some say by another name.
UNSAID = {"bos_token_id", "eos_token_id", "pad_token_id", "chunk_size", "decoder_sparse_step"}
RENAMED = {"rms_norm_eps", "rope_parameters", "original_max_position_embeddings", "rotary_pct"}
# What the converter writes for all models of a kind, and fields of layers that a model lacks.
LONG = {"max_position_embeddings": 2**20}
NO_ATTENTION = dict.fromkeys(("num_key_value_heads", "max_position_embeddings"))
OTHERWISE: dict[str, dict[str, Any]] = {
    "granitehybrid": LONG,
    "granitehybrid_moe": LONG,
    "nemotron_h": LONG,
    "nemotron_h_moe": {**LONG, "intermediate_size": 32},
    "mamba2": {**NO_ATTENTION, "intermediate_size": 0, "num_attention_heads": 0},
    "exaone4_full": {"layer_types": None},
}
YARN = ("qwen3", "gpt_oss", "deepseek_v2", "ministral3")


@pytest.mark.parametrize("name", MODELS)
def test_a_file_s_config_is_the_one_that_was_converted(name: str) -> None:
    gguf = read_gguf(GOLDEN / f"{name}.gguf")
    config = FAMILIES[gguf.architecture].config(gguf)
    fields = BASE | MODELS[name][1] | OTHERWISE.get(name, {})
    for field in fields.keys() - UNSAID - (RENAMED - config.keys()):
        assert config.get(field) == pytest.approx(fields[field]), field
    if name in YARN:
        rope = {"rope_theta": config["rope_theta"], **config["rope_scaling"]}
        assert rope == pytest.approx(fields["rope_parameters"])


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("qwen3_5", "ssm.time_step_rank"),
        ("mamba2", "ssm.inner_size"),
        ("phi", "rope.dimension_count"),
        ("gemma4", "attention.sliding_window_pattern"),
        ("deepseek_v3", "attention.head_count"),
    ],
)
def test_a_file_that_lacks_a_field_is_told_of_it(name: str, field: str) -> None:
    gguf = read_gguf(GOLDEN / f"{name}.gguf")
    place = f"{gguf.architecture}.{field}"
    less = replace(gguf, metadata={k: v for k, v in gguf.metadata.items() if k != place})
    with pytest.raises(CheckpointError, match=f"lacks the field {place}"):
        FAMILIES[gguf.architecture].config(less)


def test_a_glm_that_sees_is_refused() -> None:
    gguf = read_gguf(GOLDEN / "glm4.gguf")
    sees = replace(gguf, metadata={**gguf.metadata, "glm4.rope.dimension_sections": [2, 1, 1, 0]})
    with pytest.raises(CheckpointError, match="text side of a GLM that sees"):
        FAMILIES["glm4"].config(sees)


def test_a_window_every_so_many_layers() -> None:
    """Files say which layers have one, or after how many there is one without."""
    gguf = read_gguf(GOLDEN / "olmo3.gguf")
    listed = FAMILIES["olmo2"].config(gguf)
    place = "olmo2.attention.sliding_window_pattern"
    counted = FAMILIES["olmo2"].config(replace(gguf, metadata={**gguf.metadata, place: 2}))
    assert listed["layer_types"] == ["sliding_attention"] * 3 + ["full_attention"]
    assert counted["layer_types"] == ["sliding_attention", "full_attention"] * 2


def test_deepseek_of_older_files_has_a_whole_projection() -> None:
    """A key head is as wide as the model's there, not as the latent."""
    gguf = read_gguf(GOLDEN / "deepseek_v2.gguf")
    config = FAMILIES["deepseek2"].config(gguf)
    sizes = {"key_length": 24, "value_length": 16, "key_length_mla": None, "value_length_mla": None}
    metadata = {**gguf.metadata, **{f"deepseek2.attention.{k}": v for k, v in sizes.items()}}
    metadata["deepseek2.attention.head_count_kv"] = 4
    assert FAMILIES["deepseek2"].config(replace(gguf, metadata=metadata)) == config


@pytest.mark.parametrize("name", ["phi3", "phimoe"])
def test_a_window_of_no_tokens_is_none(name: str) -> None:
    gguf = read_gguf(GOLDEN / f"{name}.gguf")
    place = f"{gguf.architecture}.attention.sliding_window"
    for said, window in ((16, 16), (0, None), (None, None)):
        changed = replace(gguf, metadata={**gguf.metadata, place: said})
        assert FAMILIES[gguf.architecture].config(changed)["sliding_window"] == window
