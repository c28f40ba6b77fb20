"""Configs have the fields that mlx_lm 0.32.2's ModelArgs have no defaults for."""

from typing import Any

import pytest

from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.gguf.container import read_gguf
from bessemer.engine.gguf.families import family
from bessemer.engine.gguf.mlx_config import APART, mlx_config

from .make_golden import GOLDEN

# By golden file: fields of mlx_lm's, and what they have to be for that file.
FIELDS: dict[str, dict[str, Any]] = {
    "exaone4": {"head_dim": 8, "rope_scaling": None, "sliding_window_pattern": "LLLG"},
    "exaone4_full": {"sliding_window_pattern": None},
    "glm4_moe": {"rope_scaling": None},
    "granite": {"mlp_bias": False},
    "lfm2": {"block_dim": 32, "block_multiple_of": 256, "block_auto_adjust_ff_dim": False},
    "lfm2_moe": {"norm_topk_prob": True, "use_expert_bias": True},
    "mamba2": {"intermediate_size": 64, "time_step_rank": "auto"},
    "minimax_m2": {"shared_intermediate_size": 0},
    "nemotron_h": {"attention_bias": False, "mamba_proj_bias": False},
    "qwen3_5": {"full_attention_interval": 2},
    "qwen3_moe": {"decoder_sparse_step": 1, "mlp_only_layers": []},
}


def config(name: str) -> dict[str, Any]:
    gguf = read_gguf(GOLDEN / f"{name}.gguf")
    return mlx_config(family(gguf).config(gguf))


@pytest.mark.parametrize("name", FIELDS)
def test_fields_that_files_do_not_say(name: str) -> None:
    said = config(name)
    assert {field: said[field] for field in FIELDS[name]} == FIELDS[name]


@pytest.mark.parametrize("kind", APART)
def test_families_that_mlx_lm_has_in_another_shape(kind: str) -> None:
    with pytest.raises(CheckpointError, match=f"mlx_lm has {kind} in another shape"):
        mlx_config({"model_type": kind})


def test_layers_with_and_without_windows_that_come_again() -> None:
    kinds = (["sliding_attention"] * 3 + ["full_attention"]) * 2
    said = {"model_type": "exaone4", "layer_types": kinds}
    wide = {"hidden_size": 5120, "num_attention_heads": 40}  # EXAONE 4.0 32B's, which has no more
    more = mlx_config(said | wide)
    assert (more["sliding_window_pattern"], more["head_dim"]) == ("LLLG", 128)


def test_stretched_positions() -> None:
    assert config("phi3")["rope_scaling"]["type"] == "longrope"
    said = config("ministral3")["rope_parameters"]
    assert (said["rope_theta"], said["llama_4_scaling_beta"]) == (1000.0, 0.1)
    said = config("qwen3_5")["rope_parameters"]
    assert said["rope_type"] == "default" and 0 < said["partial_rotary_factor"] <= 1
