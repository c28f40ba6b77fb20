"""Higgs's config.toml: the file that `higgs init` writes, with the keys of its documentation."""

from pathlib import Path

from bessemer.http.gateway.config_file import read
from bessemer.http.gateway.routing import Router, Target

from .importing import imported

WHOLE = """\
[server]
host = "127.0.0.1"
port = 8123
max_tokens = 4096
timeout = 120.0
max_body_size = 1048576
api_key = "sk-own"
rate_limit = 60
cors_origins = ["https://app.example.com"]

[local]
mlx_profile = "auto"
raise_wired_limit = false

[[models]]
path = "mlx-community/Llama-3.2-1B-Instruct-4bit"
name = "llama"
batch = true
draft_model = "/path/to/drafter"
kv_cache = "turboquant"
kv_bits = 3
kv_max_sessions = 8

[[models]]
path = "~/models/other"
name = "org/other"
prefill_drafter = "x"
prefill_compression = "auto"

[provider.anthropic]
url = "https://api.anthropic.com"
format = "anthropic"

[provider.openai]
url = "https://api.openai.com"
api_key = "sk-theirs"
stub_count_tokens = true

[provider.ollama]
url = "http://localhost:11434"
strip_auth = true

[provider."my box"]
url = "http://10.0.0.9:8000/v1"

[[routes]]
pattern = "claude-.*"
provider = "anthropic"

[[routes]]
pattern = "my-alias"
provider = "openai"
model = "gpt-4o"

[[routes]]
name = "hard coding"
description = "Programs that are hard to write."
provider = "my box"

[[routes]]
pattern = "^here"
provider = "higgs"
model = "llama"

[default]
provider = "higgs"

[auto_router]
enabled = true
force = false
model = "katanemo/Arch-Router-1.5B"
timeout_ms = 1500

[retention]
enabled = true
minutes = 60

[logging.metrics]
enabled = true
path = "~/metrics.jsonl"
"""


def test_h36_every_key_of_higgs_is_carried_over_or_named(tmp_path: Path) -> None:
    """H3.6: all tables; what is missing here is what Bessemer has no use for."""
    tables, left, config = imported(tmp_path, "config.toml", WHOLE)
    assert tables == {
        "server": {
            "host": "127.0.0.1", "port": 8123, "max_tokens": 4096, "timeout": 120.0,
            "body_limit": 1048576, "api_key": "sk-own", "rate_limit": 60,
            "cors_origin": ["https://app.example.com"],
        },
        "models": [
            {"path": "mlx-community/Llama-3.2-1B-Instruct-4bit", "name": "llama"},
            {"path": "~/models/other", "name": "org-other"},
            {"path": "katanemo/Arch-Router-1.5B"},
        ],
        "providers": {
            "anthropic": {"url": "https://api.anthropic.com", "format": "anthropic"},
            "openai": {"url": "https://api.openai.com", "api_key": "sk-theirs",
                       "stub_count_tokens": True},
            "ollama": {"url": "http://localhost:11434", "strip_auth": True},
            "my-box": {"url": "http://10.0.0.9:8000/v1"},
        },
        "aliases": {"org/other": "org-other"},
        "routes": [
            {"pattern": "claude-.*", "provider": "anthropic"},
            {"pattern": "my-alias", "provider": "openai", "model": "gpt-4o"},
            {"name": "hard-coding", "description": "Programs that are hard to write.",
             "provider": "my-box"},
            {"pattern": "^here", "provider": "local", "model": "llama"},
        ],
        "default": {"provider": "local"},
        "auto_router": {"enabled": True, "force": False, "model": "katanemo/Arch-Router-1.5B",
                        "timeout_ms": 1500},
    }  # fmt: skip
    assert (config.port, config.api_key, config.body_limit) == (8123, ("sk-own",), 2**20)
    assert set(left) == {
        "local.mlx_profile", "local.raise_wired_limit", "models[0].batch",
        "models[0].draft_model", "models[0].kv_cache", "models[0].kv_bits",
        "models[0].kv_max_sessions", "models[1].prefill_drafter", "models[1].prefill_compression",
        'provider."my box"', "retention.enabled", "retention.minutes", "logging.metrics.enabled",
        "logging.metrics.path",
    }  # fmt: skip
    assert left['provider."my box"'] == "is called my-box here"


def test_names_lead_where_they_led(tmp_path: Path) -> None:
    imported(tmp_path, "config.toml", WHOLE)
    tables = read(tmp_path / "result.toml", {}).tables
    router = Router(tables, [model.name or model.path for model in tables.models])
    assert router.decide("claude-x").targets == (Target("anthropic", "claude-x"),)
    assert router.decide("my-alias").targets == (Target("openai", "gpt-4o"),)
    assert router.decide("here-too").targets == (Target(None, "llama"),)
    assert router.decide("org/other").targets == (Target(None, "org-other"),)


def test_what_cannot_be_meant_is_left_out_with_what_needs_it(tmp_path: Path) -> None:
    """Half of a provider or a route would send requests, or keys, elsewhere."""
    tables, left, _ = imported(
        tmp_path,
        "config.toml",
        '[server]\ntimeout = 0\nport = 99999\n[provider.a]\nurl = "ftp://a"\napi_key = "k"\n'
        '[provider.b]\nurl = "http://b"\nstrip_auth = "maybe"\n'
        '[provider.local]\nurl = "http://l"\n'
        '[[routes]]\npattern = "x"\nprovider = "a"\n[[routes]]\npattern = "("\nprovider = "local"\n'
        '[[routes]]\npattern = "y"\nprovider = "local"\n[default]\nprovider = "b"\n'
        '[[models]]\npath = " "\nname = "blank"\n[[models]]\nname = "none"\n[other]\nkey = 1\n',
    )
    assert tables == {
        "providers": {"local-provider": {"url": "http://l"}},
        "routes": [{"pattern": "y", "provider": "local-provider"}],
    }
    assert left["server.timeout"] == "is '0', but must be a number of seconds above 0"
    assert left["server.port"].startswith("is '99999', but must be a whole number")
    assert left["provider.a.url"] == "must begin with http:// or https://"
    assert left["provider.a.api_key"].startswith("goes with the rest of it: providers.a.url must")
    assert left["provider.b.strip_auth"] == "must be true or false, not a string"
    assert "provider.b.url" in left and left["provider.local"] == "is called local-provider here"
    assert "there is no such provider" in left["routes[0].provider"]
    assert left["routes[1].pattern"].startswith("is no regular expression")
    assert "there is no such provider" in left["default.provider"]
    assert left["models[0].path"] == "is blank" and "models[1].path" in left
    assert left["other"] == "no such key is known here"


def test_two_names_that_become_one_stay_two(tmp_path: Path) -> None:
    """A key of one provider's must never be sent to the other."""
    tables, _, _ = imported(
        tmp_path,
        "config.toml",
        '[provider."a b"]\nurl = "http://1"\n[provider."a-b"]\nurl = "http://2"\napi_key = "k"\n'
        '[[routes]]\npattern = "x"\nprovider = "a-b"\n',
    )
    assert tables["providers"] == {
        "a-b": {"url": "http://1"},
        "a-b-2": {"url": "http://2", "api_key": "k"},
    }
    assert tables["routes"] == [{"pattern": "x", "provider": "a-b-2"}]
