"""Fields that follow from several of a file's, and files that lack one."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.gguf import derived
from bessemer.engine.gguf.block_types import TYPES
from bessemer.engine.gguf.container import Gguf, GgufTensor, read_gguf
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
# By golden file: the model_type that is not its name.
TYPE_OF = {
    "llama_tied": "llama",
    "mistral": "llama",
    "gemma3": "gemma3_text",
    "exaone4_full": "exaone4",
    "cohere_normed": "cohere",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "granitehybrid": "granitemoehybrid",
    "granitehybrid_moe": "granitemoehybrid",
    "granitemoe_shared": "granitemoehybrid",
    "nemotron_h_moe": "nemotron_h",
    "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text",
    "gemma4_moe": "gemma4_text",
}
YARN = ("qwen3", "gpt_oss", "deepseek_v2", "ministral3")


@pytest.mark.parametrize("name", MODELS)
def test_a_file_s_config_is_the_one_that_was_converted(name: str) -> None:
    gguf = read_gguf(GOLDEN / f"{name}.gguf")
    config = FAMILIES[gguf.architecture].config(gguf)
    fields = BASE | MODELS[name][1] | OTHERWISE.get(name, {})
    assert config["model_type"] == TYPE_OF.get(name, name)
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


ABSENT = "absent"
HEADS, SIZE, KEYS = "attention.head_count", "embedding_length", "attention.key_length"
WINDOW, COUNT = "attention.sliding_window", "block_count"
ROTATED, GROUPS = "rope.dimension_count", "expert_group_count"
SSM = {"ssm.inner_size": 96, "ssm.time_step_rank": 4, SIZE: 32}
MLA = {HEADS: 16, ROTATED: 64, "attention.key_length_mla": 192, "attention.value_length_mla": 128}


def about(said: Mapping[str, Any], *tensors: str, layers: int = 1) -> Gguf:
    """A file of so many layers that says this below its architecture's name."""
    fields = {COUNT: layers, **said}
    names = [f"blk.0.{each}" for each in tensors] + [f"blk.{i}.any" for i in range(layers)]
    place = {name: GgufTensor(Path("m"), name, (4, 4), TYPES[0], 0) for name in names}
    metadata = {"general.architecture": "any", **{f"any.{name}": v for name, v in fields.items()}}
    return Gguf(Path("m"), metadata, place)


# What the config.json of published models says where no golden file is like them.
@pytest.mark.parametrize(
    ("read", "gguf", "fields"),
    [
        (
            derived.gemma2,  # 27 B
            about({HEADS: 32, SIZE: 4608, KEYS: 128}, layers=46),
            {"query_pre_attn_scalar": 144},
        ),
        (
            derived.gemma2,  # 9 B
            about({HEADS: 16, SIZE: 3584, KEYS: 256}, layers=42),
            {"query_pre_attn_scalar": 256},
        ),
        (
            derived.gemma3,  # 27 B
            about({HEADS: 32, SIZE: 5376, KEYS: 128, "rope.freq_base_swa": 1e4}, layers=62),
            {"query_pre_attn_scalar": 168, "rope_local_base_freq": 1e4},
        ),
        (
            derived.gemma3,  # 12 B
            about({HEADS: 16, SIZE: 3840, KEYS: 256}, layers=48),
            {"query_pre_attn_scalar": 256, "rope_local_base_freq": ABSENT},
        ),
        (
            derived.phi3,  # Phi 4 mini
            about({HEADS: 24, SIZE: 3072, ROTATED: 96}),
            {
                "partial_rotary_factor": 0.75,
                "original_max_position_embeddings": None,
                "sliding_window": None,
            },
        ),
        (
            derived.partly,  # Phi 2
            about({HEADS: 32, SIZE: 2560, ROTATED: 32}),
            {"partial_rotary_factor": 0.4},
        ),
        (
            derived.partly,  # GLM 4
            about({HEADS: 32, SIZE: 4096, KEYS: 128, ROTATED: 64}),
            {"partial_rotary_factor": 0.5},
        ),
        (derived.exaone4, about({}, layers=64), {"sliding_window": 4096}),
        (derived.exaone4, about({}, layers=30), {"sliding_window": None}),
        (derived.exaone4, about({WINDOW: 8}, layers=64), {"sliding_window": 8}),
        (derived.windows, about({WINDOW: 8}), {}),
        (
            derived.windows,
            about({WINDOW: 8, f"{WINDOW}_pattern": 0}, layers=2),
            {"sliding_window": 8, "layer_types": [derived.SLIDING] * 2},
        ),
        (
            derived.deepseek2,  # V2 Lite
            about(MLA | {GROUPS: 1}),
            {"model_type": "deepseek_v2", "topk_method": "greedy", "q_lora_rank": None}
            | {"num_key_value_heads": 16, "qk_nope_head_dim": 128, "v_head_dim": 128}
            | {"norm_topk_prob": False},
        ),
        (
            derived.deepseek2,  # V2
            about(MLA | {GROUPS: 8, "attention.q_lora_rank": 1536, "expert_weights_norm": True}),
            {"model_type": "deepseek_v2", "topk_method": "group_limited_greedy"}
            | {"q_lora_rank": 1536, "norm_topk_prob": True},
        ),
        (
            derived.deepseek2,  # Moonlight
            about(MLA | {"expert_gating_func": 2}),
            {"model_type": "deepseek_v3", "topk_method": "noaux_tc"},
        ),
        (
            derived.deepseek2,  # files that do not say how experts are scored
            about(MLA | {"expert_gating_func": 1}, "exp_probs_b.bias"),
            {"model_type": "deepseek_v3", "topk_method": "noaux_tc"},
        ),
        (derived.encoder, about({}), {"type_vocab_size": 0}),
        (derived.mistral3, about({}), {"model_type": "mistral"}),
        (derived.llama, about({"expert_count": 8}), {"model_type": "mixtral"}),
        (derived.olmo2, about({}, "attn_q.bias"), {"attention_bias": True}),
        (derived.granite_moe, about({}), {"model_type": "granite", "attention_bias": False}),
        (
            derived.granite_moe,
            about({"expert_count": 4}, "attn_q.bias"),
            {"model_type": ABSENT, "attention_bias": True},
        ),
        (
            derived.granite_moe,
            about({"expert_count": 4}, "ffn_up_shexp.weight"),
            {"model_type": "granitemoehybrid", "layer_types": ["attention"]},
        ),
        (derived.granite_hybrid, about(SSM), {"position_embedding_type": "rope"}),
        (
            derived.granite_hybrid,
            about(SSM | {"rope.scaling.finetuned": False}),
            {"mamba_d_head": 24, "mamba_expand": 3, "position_embedding_type": "nope"},
        ),
        (
            derived.mamba2,
            about(SSM),
            {"head_dim": 24, "expand": 3},
        ),
    ],
)
def test_what_published_configs_say(read: Any, gguf: Gguf, fields: Mapping[str, Any]) -> None:
    said = read(gguf)
    assert {name: said.get(name, ABSENT) for name in fields} == fields and (fields or not said)


def test_how_many_types_of_tokens_an_encoder_has() -> None:
    assert derived.encoder(read_gguf(GOLDEN / "encoders" / "bert.gguf")) == {"type_vocab_size": 2}


# Fields that are true where a layer has the tensor.
@pytest.mark.parametrize(
    ("read", "field", "tensor"),
    [
        (derived.llama, "attention_bias", "attn_output.bias"),
        (derived.llama, "mlp_bias", "ffn_down.bias"),
        (derived.biased, "attention_bias", "attn_q.bias"),
        (derived.starcoder2, "use_bias", "attn_q.bias"),
        (derived.command_r, "use_qk_norm", "attn_q_norm.weight"),
        (derived.lfm2, "conv_bias", "shortconv.conv.bias"),
        (derived.seed_oss, "attention_out_bias", "attn_output.bias"),
        (derived.granite_hybrid, "mamba_conv_bias", "ssm_conv1d.bias"),
        (derived.granite_hybrid, "mamba_proj_bias", "ssm_in.bias"),
        (derived.nemotron_h, "use_bias", "ssm_in.bias"),
        (derived.nemotron_h, "use_conv_bias", "ssm_conv1d.bias"),
        (derived.nemotron_h, "mlp_bias", "ffn_up.bias"),
        (derived.mamba2, "use_bias", "ssm_in.bias"),
        (derived.mamba2, "use_conv_bias", "ssm_conv1d.bias"),
        (derived.glm4_moe, "use_qk_norm", "attn_q_norm.weight"),
    ],
)
def test_what_tensors_say(read: Any, field: str, tensor: str) -> None:
    said = SSM | {HEADS: 4, ROTATED: 8}
    assert read(about(said, tensor))[field] is True
    assert read(about(said))[field] is False


@pytest.mark.parametrize("name", ["phi3", "phimoe"])
def test_a_window_of_no_tokens_is_none(name: str) -> None:
    gguf = read_gguf(GOLDEN / f"{name}.gguf")
    place = f"{gguf.architecture}.attention.sliding_window"
    for said, window in ((16, 16), (0, None), (None, None)):
        changed = replace(gguf, metadata={**gguf.metadata, place: said})
        assert FAMILIES[gguf.architecture].config(changed)["sliding_window"] == window
