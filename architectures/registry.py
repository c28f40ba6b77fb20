"""Which module knows which model_type; importable without mlx, for a server to ask."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from .config import ConfigError, Fields, ModelConfig

FAMILIES = {
    "llama": "llama",
    "mistral": "mistral",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3_moe",
}


def supported() -> list[str]:
    return sorted(FAMILIES)


def configure(raw: Mapping[str, Any]) -> ModelConfig:
    """Reads a parsed config.json through its family's module."""
    model_type = raw.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ConfigError(
            f"config.json: model_type is {model_type!r}, which is not supported; "
            f"supported are {', '.join(supported())}"
        )
    family = import_module(f".{FAMILIES[model_type]}", __package__)
    config = family.configure(Fields(raw))
    assert isinstance(config, ModelConfig)
    return config
