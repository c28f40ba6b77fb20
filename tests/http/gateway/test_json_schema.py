"""The JSON Schema of config.toml: what editors take is what the server takes."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from bessemer.http.config import SETTINGS, UsageError, read_config
from bessemer.http.gateway.config_file import TABLES, read
from bessemer.http.gateway.json_schema import json_schema

from .test_config_file import WHOLE

SCHEMA = json_schema()
VALID = Draft202012Validator(SCHEMA)
VALUES: list[Any] = [
    0, 1, 3, 8, 70_000, -1, 1.5, True, "", " ", "auto", "x", "512MB", "1 gib", "info",
    "truncate", "keep", "sse", "off", [], ["a", "b"], {"a": 1}, "2.5KB",
]  # fmt: skip


def settings() -> list[tuple[str, str]]:
    return [(table, name) for table, names in TABLES.items() for name in SETTINGS if name in names]


def is_read(name: str, value: Any) -> bool:
    try:
        read_config({}, {}, {name: ("here", value)})
    except UsageError:
        return False
    return True


def test_the_schema_is_one_and_has_every_setting() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    tables = SCHEMA["$defs"]["ConfigTables"]["properties"]
    for table, names in TABLES.items():
        assert tables[table]["properties"].keys() == {*names}
        for name, about in tables[table]["properties"].items():
            words = {"type", "enum", "anyOf"} & about.keys()
            assert words and SETTINGS[name].help == about["description"]


@pytest.mark.parametrize(("table", "name"), settings(), ids=lambda each: str(each))
def test_what_the_schema_takes_the_server_takes(table: str, name: str) -> None:
    """The server also takes numbers as texts, other cases, 1 for true, and numbers for names."""
    if name == "api_key_file":  # any text is right here, where it names a file
        return
    for value in VALUES:
        taken = VALID.is_valid({table: {name: value}})
        assert not taken or is_read(name, value), value
        lenient = isinstance(value, str | bool) or value in (0, 1) or is_text(name)
        assert taken or lenient or not is_read(name, value), value


def is_text(name: str) -> bool:
    return is_read(name, "any words")


@pytest.mark.parametrize(("table", "name"), settings(), ids=lambda each: str(each))
def test_defaults_are_what_they_say(table: str, name: str) -> None:
    about = SCHEMA["$defs"]["ConfigTables"]["properties"][table]["properties"][name]
    if "default" not in about:
        assert SETTINGS[name].default in ("", "[]")
        return
    assert VALID.is_valid({table: {name: about["default"]}})
    config = read_config({}, {}, {name: ("here", about["default"])})
    plain = read_config({}, {})
    of = config if hasattr(config, name) else config.model
    assert getattr(of, name) == getattr(plain if hasattr(plain, name) else plain.model, name)


def test_a_whole_file_is_valid_and_its_mistakes_are_not(tmp_path: Path) -> None:
    assert VALID.is_valid(tomllib.loads(WHOLE))
    for there, instead in (
        ("port = 8123", "prt = 1"),
        ('"anthropic"\n', '"antropic"\n'),
        ("[aliases]", "[alias]"),
        ('url = "https', 'ulr = "https'),
        ('["g", "openai/gpt-mini"]', "[]"),
    ):
        wrong = WHOLE.replace(there, instead, 1)
        assert wrong != WHOLE and not VALID.is_valid(tomllib.loads(wrong)), instead
        path = tmp_path / "config.toml"
        path.write_text(wrong)
        with pytest.raises(UsageError):
            read(path, {}).settings()
