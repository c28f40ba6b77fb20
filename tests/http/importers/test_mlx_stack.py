"""mlx-stack's two files, as `mlx-stack setup` writes them."""

from pathlib import Path

from .importing import imported

STACK = """\
schema_version: 1
name: default
hardware_profile: m4-pro-48
intent: balanced
created: '2026-03-24T05:06:07+00:00'
tiers:
- name: standard
  model: qwen3.5-14b
  quant: int4
  source: mlx-community/Qwen3.5-14B-4bit
  port: 8000
  vllm_flags:
    continuous_batching: true
    use_paged_cache: true
    enable_auto_tool_choice: true
    tool_call_parser: hermes
    reasoning_parser: qwen3
- name: fast
  model: qwen3.5-0.8b
  quant: int4
  source: mlx-community/Qwen3.5-0.8B-4bit
  port: 8001
  vllm_flags: {continuous_batching: true, use_paged_cache: true, tool_call_parser: none_such}
- name: added-again
  model: qwen3.5-14b
  quant: int4
  source: mlx-community/Qwen3.5-14B-4bit
  port: 8002
- name: nowhere
  model: x
  source: ''
"""
CLOUD = """\
cloud_fallback:
  provider: openrouter
  models: [openai/gpt-4o, anthropic/claude-sonnet-4-20250514]
"""
BIG, SMALL = "qwen3.5-14b-int4", "qwen3.5-0.8b-int4"
REMOTE = ["openrouter/openai/gpt-4o", "openrouter/anthropic/claude-sonnet-4-20250514"]


def test_k44_tiers_stand_in_for_those_before_them_and_the_cloud_for_all(tmp_path: Path) -> None:
    """K4.4, K1.2, K1.3."""
    tables, left, _ = imported(tmp_path, "default.yaml", STACK + CLOUD)
    assert tables == {
        "models": [
            {"path": "mlx-community/Qwen3.5-14B-4bit", "name": BIG, "tool_parser": "hermes"},
            {"path": "mlx-community/Qwen3.5-0.8B-4bit", "name": SMALL},
        ],
        "providers": {
            "openrouter": {
                "url": "https://openrouter.ai/api/v1",
                "api_key": "env:OPENROUTER_API_KEY",
            }
        },
        "tiers": {
            "premium": {"targets": REMOTE},
            "standard": {"targets": [BIG, SMALL, *REMOTE]},
            "fast": {"targets": [SMALL, BIG, *REMOTE]},
            "added-again": {"targets": [BIG, *REMOTE]},
        },
    }
    flags = "vllm_flags.{}".format
    assert set(left) == {
        *("schema_version", "name", "hardware_profile", "intent", "created", "tiers[3]"),
        *(f"tiers[{i}].{key}" for i in range(3) for key in ("quant", "port")),
        *(f"tiers[{i}].{flags(key)}" for i in range(2)
          for key in ("continuous_batching", "use_paged_cache")),
        f"tiers[0].{flags('enable_auto_tool_choice')}", f"tiers[0].{flags('reasoning_parser')}",
        f"tiers[1].{flags('tool_call_parser')}",
    }  # fmt: skip
    assert left["tiers[3]"] == "lacks one of name, model, source"


def test_without_a_cloud_there_is_none(tmp_path: Path) -> None:
    tables, left, _ = imported(tmp_path, "default.yaml", STACK)
    assert tables["tiers"]["fast"] == {"targets": [SMALL, BIG]} and "providers" not in tables
    other = STACK + "cloud_fallback: {provider: other, models: [x], more: 1}\n"
    tables, left, _ = imported(tmp_path, "default.yaml", other)
    assert "providers" not in tables and "no address is known" in left["cloud_fallback.provider"]
    assert "cloud_fallback.models" in left and "cloud_fallback.more" in left


def test_k3_keys_of_the_settings_file(tmp_path: Path) -> None:
    """K3: each key; a key of OpenRouter's makes mlx-stack's premium tier."""
    tables, left, config = imported(
        tmp_path,
        "config.yaml",
        "openrouter-key: sk-or-v1-abc\ndefault-quant: int8\nmemory-budget-pct: 60\n"
        "litellm-port: 4001\nmodel-dir: ~/.mlx-stack/models\nauto-health-check: true\n"
        "log-max-size-mb: 50\nlog-max-files: 3\n",
    )
    openrouter = {"url": "https://openrouter.ai/api/v1", "api_key": "sk-or-v1-abc"}
    assert tables == {
        "server": {"port": 4001},
        "providers": {"openrouter": openrouter},
        "tiers": {"premium": {"targets": REMOTE}},
    }
    assert config.port == 4001
    assert set(left) == {
        *("default-quant", "memory-budget-pct", "model-dir", "auto-health-check"),
        *("log-max-size-mb", "log-max-files"),
    }
    assert "sk-or" not in str(left)


def test_an_empty_key_makes_no_provider(tmp_path: Path) -> None:
    tables, left, _ = imported(tmp_path, "config.yaml", "openrouter-key: ''\nlitellm-port: 0x\n")
    assert tables == {} and left["openrouter-key"] == "is empty"
    assert left["litellm-port"].startswith("is '0x', but must be a whole number")
