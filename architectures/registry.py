"""The module of each model_type that writes text; importable without mlx, for a server."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from .config import ConfigError, ModelConfig
from .encoder_families import FAMILIES as ENCODERS
from .fields import Fields

FAMILIES = {
    "cohere": "cohere",
    "cohere2": "cohere2",
    "deepseek_v2": "deepseek_v2",
    "deepseek_v3": "deepseek_v3",
    "exaone4": "exaone4",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "gemma3_text": "gemma3",
    "gemma3n": "gemma3n",
    "gemma3n_text": "gemma3n",
    "gemma4": "gemma4",
    "gemma4_text": "gemma4",
    "glm4": "glm4",
    "glm4_moe": "glm4_moe",
    "glm4_moe_lite": "glm4_moe_lite",
    "gpt_oss": "gpt_oss",
    "granite": "granite",
    "granitemoe": "granitemoe",
    "granitemoehybrid": "granitemoehybrid",
    "kimi_k2": "deepseek_v3",
    "lfm2": "lfm2",
    "lfm2_moe": "lfm2_moe",
    "llama": "llama",
    "mamba2": "mamba2",
    "minimax_m2": "minimax_m2",
    "ministral": "mistral",
    "ministral3": "ministral3",
    "mistral": "mistral",
    "mistral3": "mistral3",
    "mixtral": "mixtral",
    "nemotron_h": "nemotron_h",
    "olmo2": "olmo2",
    "olmo3": "olmo3",
    "phi": "phi",
    "phi3": "phi3",
    "phimoe": "phimoe",
    "qwen2": "qwen2",
    "qwen2_moe": "qwen2_moe",
    "qwen3": "qwen3",
    "qwen3_5": "qwen3_5",
    "qwen3_5_moe": "qwen3_5",
    "qwen3_5_moe_text": "qwen3_5",
    "qwen3_5_text": "qwen3_5",
    "qwen3_moe": "qwen3_moe",
    "qwen3_next": "qwen3_next",
    "seed_oss": "seed_oss",
    "smollm3": "smollm3",
    "starcoder2": "starcoder2",
}


def supported() -> list[str]:
    """Return all families, among them the encoders, which embed and rank but write no text."""
    return sorted({*FAMILIES, *ENCODERS})


def configure(raw: Mapping[str, Any]) -> ModelConfig:
    """Read a parsed config.json through its family's module; ConfigError where it cannot be."""
    model_type = raw.get("model_type")
    if isinstance(model_type, str) and model_type in ENCODERS:
        raise ConfigError(
            f"config.json: model_type is {model_type!r}, an encoder, which embeds or ranks texts "
            "and writes none"
        )
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ConfigError(
            f"config.json: model_type is {model_type!r}, which is not supported; "
            f"supported are {', '.join(supported())}"
        )
    family = import_module(f".{FAMILIES[model_type]}", __package__)
    fields = Fields(raw)
    config = family.configure(fields)
    assert isinstance(config, ModelConfig)
    fields.leave()
    return config
