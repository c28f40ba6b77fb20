"""mlx-router's config.json, with every key of its documentation."""

import json
from pathlib import Path
from typing import Any

from .importing import imported

MODEL: dict[str, Any] = {
    "max_tokens": 16384, "temp": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.05,
    "chat_template": "qwen", "reasoning_response": "enable", "required_memory_gb": 20,
    "supports_tools": True, "supports_vision": False,
    "memory_pressure_max_tokens": {"normal": 16384, "moderate": 8192, "high": 4096, "critical": 1},
}  # fmt: skip
WHOLE: dict[str, Any] = {
    "defaults": {
        "max_tokens": 8192, "timeout": 120, "cache_size": 2, "memory_threshold_gb": 2.0,
        "safety_margin": 0.9, "swap_critical_percent": 99.0, "swap_high_percent": 90.0,
        "stream": True, "stream_chunk_size": 32, "streaming_format": "json_lines",
        "warmup_tokens": 5, "enable_function_calling": True, "model": "org/first",
        "model_directory": "/Users/username/models",
    },
    "server": {"ip": "10.3.2.1", "port": 8800, "debug": True},
    "models": {"org/Qwen-4bit": MODEL, "org/first": {}, "bare": {"temp": 1}},
}  # fmt: skip


def test_r3_every_key_is_carried_over_or_named(tmp_path: Path) -> None:
    """R3.1 to R3.3."""
    tables, left, config = imported(tmp_path, "config.json", json.dumps(WHOLE))
    assert tables == {
        "server": {
            "max_tokens": 8192, "timeout": 120, "stream_format": "json_lines",
            "stream_chunk_size": 32, "host": "10.3.2.1", "port": 8800, "log_level": "debug",
        },
        "models": [{"path": "org/first"}, {"path": "org/Qwen-4bit"}, {"path": "bare"}],
    }  # fmt: skip
    assert config.models == ("org/first", "org/Qwen-4bit", "bare")
    carried = {"max_tokens", "timeout", "stream_chunk_size", "streaming_format", "model"}
    assert set(left) == {
        *(f"defaults.{key}" for key in WHOLE["defaults"].keys() - carried),
        *(f'models."org/Qwen-4bit".{key}' for key in MODEL),
        "models.bare.temp",
    }


def test_a_file_as_it_is_published_has_no_models(tmp_path: Path) -> None:
    small = {**WHOLE, "models": {}, "defaults": {"max_tokens": 16384}}
    tables, left, _ = imported(tmp_path, "config.json", json.dumps(small))
    assert "models" not in tables and left == {}


def test_values_of_another_kind_are_named(tmp_path: Path) -> None:
    odd = {"defaults": {"model": 5, "timeout": {"a": 1}}, "server": {"debug": "no"}, "models": []}
    tables, left, _ = imported(tmp_path, "config.json", json.dumps(odd))
    assert tables == {}
    assert left["defaults.model"] == "must be a string, not an integer"
    assert left["defaults.timeout"] == "must be a text, a number, true or false"
    assert left["server.debug"].startswith("is 'no', but must be one of")
