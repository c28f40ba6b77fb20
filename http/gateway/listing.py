"""The settings in force, each with its source, and no key that could be read."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import NODEFAULT, Struct
from msgspec.structs import FieldInfo, fields

from ..config import SETTINGS, Config, read_config
from .config_file import ENGINE, TABLES, ConfigFile, Path_, dotted
from .json_schema import plain_setting

HIDDEN, SHOWN = "****", 3  # between the first and the last characters of a key
REFERENCES = ("env:", "file:", "keychain:")  # what says where a key is
PASSWORD = re.compile(r"//[^/?#@]*@")
QUERY = re.compile(r"([?&][^=&#]*=)[^&#]+")
DEFAULT = "default"
MODELS = ("models", "chat_template", "tool_parser")  # variables, which go over [[models]]


@dataclass(frozen=True, slots=True)
class Row:
    """A key, its value with keys of providers and clients hidden, and where it has it from."""

    key: str
    value: Any
    source: str
    at_default: bool


def rows(file: ConfigFile, environment: Mapping[str, str]) -> list[Row]:
    """Return all settings, then all keys of the other tables. Raises UsageError."""
    config = read_config({}, environment, file.settings())
    given = {name: _variable(name, environment) for name in SETTINGS}
    names = [name for name in SETTINGS if name not in MODELS or given[name]]
    names.sort(key=ENGINE.__contains__)
    listed = [_of_setting(name, config, file, given) for name in names]
    for table in file.tables.__struct_fields__:
        if table not in TABLES and not (table == "models" and given["models"]):
            value = getattr(file.tables, table)
            listed += _of_table((table,), value, _default(file.tables, table), file)
    return listed


def _variable(name: str, environment: Mapping[str, str]) -> str | None:
    return next((each for each in SETTINGS[name].environment if environment.get(each)), None)


def _of_setting(
    name: str, config: Config, file: ConfigFile, given: Mapping[str, str | None]
) -> Row:
    value = plain_setting(name, config)
    source = given[name] or _in_file(name, file)
    if name == "api_key" and not source and value:  # they are those of a file of keys
        source = given["api_key_file"] or _in_file("api_key_file", file)
    key = (name,) if name in MODELS else _key(name)
    default = value == plain_setting(name, Config())
    return Row(dotted(key), masked(key, value), source or DEFAULT, default)


def _key(name: str) -> Path_:
    return ("engine" if name in ENGINE else "server", name)


def _in_file(name: str, file: ConfigFile) -> str | None:
    table, _ = key = _key(name)
    return file.place(key) if name in getattr(file.tables, str(table)) else None


def _of_table(key: Path_, value: Any, default: Any, file: ConfigFile) -> Iterator[Row]:
    if isinstance(value, Struct):
        for name in value.__struct_fields__:
            # A table that means something by being there has nothing at its default.
            usual = _default(value, name) if default is not None else NODEFAULT
            yield from _of_table((*key, name), getattr(value, name), usual, file)
    elif isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _of_table((*key, name), each, NODEFAULT, file)
    elif isinstance(value, list) and any(isinstance(each, Struct) for each in value):
        for i, each in enumerate(value):
            yield from _of_table((*key, i), each, NODEFAULT, file)
    elif value is not None and (value or value != default):
        same = value == default
        yield Row(dotted(key), masked(key, value), DEFAULT if same else file.place(key), same)


def _default(struct: Struct, name: str) -> Any:
    found: FieldInfo = next(each for each in fields(struct) if each.name == name)
    if found.default_factory is not NODEFAULT:
        return found.default_factory()
    return found.default


def masked(key: Path_, value: Any) -> Any:
    """Return a value with what nobody may read hidden: keys, headers, and secrets in URLs."""
    if isinstance(value, list):
        return [masked(key, each) for each in value]
    if not isinstance(value, str):
        return value
    if key[-1] == "url":
        return QUERY.sub(rf"\1{HIDDEN}", PASSWORD.sub(f"//{HIDDEN}@", value))
    secret = key[-1] in ("api_key", "key") or "headers" in key[:-1]
    return _hidden(value) if secret and not value.startswith(REFERENCES) else value


def _hidden(secret: str) -> str:
    if len(secret) <= 2 * SHOWN:
        return HIDDEN
    return f"{secret[:SHOWN]}{HIDDEN}{secret[-SHOWN:]}"
