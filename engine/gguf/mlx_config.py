"""Fields of a config.json that mlx_lm asks for, although a model's own loaders know them."""

from collections.abc import Callable, Mapping
from typing import Any

from ..checkpoint.weight_files import CheckpointError

Config = Mapping[str, Any]
FULL = "full_attention"
# Families that mlx_lm has in another shape than files of theirs: tensors apart that are one there.
APART = ("deepseek_v2", "gemma3n_text", "granitemoehybrid", "qwen3_next")


def mlx_config(config: Config) -> dict[str, Any]:
    """Return the config with what mlx_lm needs. Raises CheckpointError if nothing helps."""
    kind = str(config["model_type"])
    if kind in APART:
        raise CheckpointError(
            f"mlx_lm has {kind} in another shape than GGUF files have; serve the file as it is"
        )
    stretched = config.get("rope_scaling")
    older = {"rope_scaling": stretched | {"type": stretched["rope_type"]}} if stretched else {}
    more = MORE[kind](config) if kind in MORE else {}
    return {**more, **config, **older, **(_mamba2(config) if kind == "mamba2" else {})}


def _mamba2(config: Config) -> Config:
    """Return the width that files have as 0, for layers of this kind have no other."""
    return {"intermediate_size": config["num_heads"] * config["head_dim"]}


def _exaone4(config: Config) -> Config:
    kinds = config.get("layer_types", ())
    letters = "".join("G" if kind == FULL else "L" for kind in kinds)
    first = letters.find("G") + 1
    return {
        "head_dim": config["hidden_size"] // config["num_attention_heads"],
        "rope_scaling": None,
        "sliding_window_pattern": letters[:first] if "L" in letters else None,
    }


def _ministral3(config: Config) -> Config:
    return {"rope_parameters": {**config["rope_scaling"], "rope_theta": config["rope_theta"]}}


def _qwen3_5(config: Config) -> Config:
    rope = {name: config[name] for name in ("rope_theta", "partial_rotary_factor")}
    return {
        "full_attention_interval": config["layer_types"].index(FULL) + 1,
        "rope_parameters": {"rope_type": "default", **rope},
    }


def _lfm2(config: Config) -> Config:
    return {
        "block_dim": config["hidden_size"],
        "block_multiple_of": 256,
        "block_ffn_dim_multiplier": 1.0,
    }


MORE: Mapping[str, Callable[[Config], Config]] = {
    "exaone4": _exaone4,
    "glm4_moe": lambda _: {"rope_scaling": None},
    "granite": lambda _: {"mlp_bias": False},
    "lfm2": _lfm2,
    "lfm2_moe": lambda _: {"norm_topk_prob": True, "use_expert_bias": True},
    "mamba2": lambda _: {"time_step_limit": [0.0, float("inf")], "time_step_rank": "auto"},
    "minimax_m2": lambda _: {"shared_intermediate_size": 0},
    "ministral3": _ministral3,
    "nemotron_h": lambda _: {"attention_bias": False, "mamba_proj_bias": False},
    "qwen3_5_moe_text": _qwen3_5,
    "qwen3_5_text": _qwen3_5,
    "qwen3_moe": lambda _: {"decoder_sparse_step": 1, "mlp_only_layers": []},
}
