"""Settings are listed with where they are from, and no key can be read in the list."""

import json
from pathlib import Path

import pytest

from bessemer.http.config import SETTINGS
from bessemer.http.gateway.config_file import read
from bessemer.http.gateway.listing import Row, masked, rows

WHOLE = """\
[server]
port = 8123
host = "127.0.0.1"
api_key = ["sk-abcdefgh", "short"]
body_limit = "20MiB"
[engine]
kv_bits = 8
[[models]]
path = "p"
[providers.a]
url = "https://user:password@host/v1?key=query-secret&b=other-secret#c"
api_key = "sk-provider-secret"
headers = {Authorization = "Bearer header-secret", x = "y"}
[providers.b]
url = "http://b"
api_key = "env:NAME"
models = []
[aliases]
"x.y" = "p"
[default]
provider = "local"
"""


def listed(tmp_path: Path, text: str = WHOLE, **environment: str) -> dict[str, Row]:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return {row.key: row for row in rows(read(path, environment), environment)}


def test_what_is_set_has_its_value_and_its_source(tmp_path: Path) -> None:
    said = {"BESSEMER_PORT": "9", "BESSEMER_PROVIDERS__B__FORMAT": "ollama", "BESSEMER_CHUNK": "64"}
    found = listed(tmp_path, **said)
    file = tmp_path / "config.toml"
    assert {key: (row.value, row.source) for key, row in found.items() if not row.at_default} == {
        "server.port": (9, "BESSEMER_PORT"),
        "server.api_key": (["sk-****fgh", "****"], f"{file}, line 4"),
        "server.body_limit": ("20MiB", f"{file}, line 5"),
        "engine.kv_bits": (8, f"{file}, line 7"),
        "engine.chunk": (64, "BESSEMER_CHUNK"),
        "models[0].path": ("p", f"{file}, line 9"),
        "providers.a.url": ("https://****@host/v1?key=****&b=****#c", f"{file}, line 11"),
        "providers.a.api_key": ("sk-****ret", f"{file}, line 12"),
        "providers.a.headers.Authorization": ("Bea****ret", f"{file}, line 13"),
        "providers.a.headers.x": ("****", f"{file}, line 13"),
        "providers.b.url": ("http://b", f"{file}, line 15"),
        "providers.b.format": ("ollama", "BESSEMER_PROVIDERS__B__FORMAT"),
        "providers.b.api_key": ("env:NAME", f"{file}, line 16"),
        "providers.b.models": ([], f"{file}, line 17"),
        "aliases.x.y": ("p", f"{file}, line 19"),
        "default.provider": ("local", f"{file}, line 21"),
    }
    assert found["server.host"].at_default and found["server.timeout"].source == "default"


def test_every_setting_is_listed_with_a_value_that_json_has(tmp_path: Path) -> None:
    found = listed(tmp_path, "")
    names = {key.partition(".")[2] for key in found if key.startswith(("server.", "engine."))}
    assert names == SETTINGS.keys() - {"models", "chat_template", "tool_parser"}
    assert all(row.at_default and row.source == "default" for row in found.values())
    json.dumps([row.value for row in found.values()])


def test_models_of_the_environment_stand_for_those_of_the_file(tmp_path: Path) -> None:
    found = listed(tmp_path, BESSEMER_MODELS="a,b=c")
    assert found["models"].value == ["a", "b=c"] and found["models"].source == "BESSEMER_MODELS"
    assert "models[0].path" not in found


def test_keys_of_a_file_of_keys_are_its_source_s(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-a-file\n")
    found = listed(tmp_path, "", BESSEMER_API_KEY_FILE=str(keys))["server.api_key"]
    assert found == Row("server.api_key", ["a-k****ile"], "BESSEMER_API_KEY_FILE", False)


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("sk-1234567", "sk-****567"), ("1234567", "123****567"), ("123456", "****"), ("", "****"),
        ("env:NAME", "env:NAME"), ("file:/k", "file:/k"), ("keychain:n", "keychain:n"),
    ],
)  # fmt: skip
def test_k22_a_key_shows_three_characters_at_each_end(secret: str, shown: str) -> None:
    """K2.2: first 3 + **** + last 3; 6 characters or fewer: ****."""
    assert masked(("providers", "a", "api_key"), secret) == shown
    assert masked(("providers", "api_key", "url"), secret) == secret
