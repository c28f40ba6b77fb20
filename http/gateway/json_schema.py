"""The JSON Schema of config.toml, by which editors complete and check it."""

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from ...engine.settings import Flag, Settings
from ..config import SETTINGS, Config
from ..log import LEVELS
from .config_file import TABLES
from .schema import ConfigTables

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SIZE = r"^\s*\d{1,15}(\.\d+)?\s*([KkMmGgTt]?[Ii]?[Bb]?)\s*$"
TEXT: Mapping[str, Any] = {"type": "string"}


def json_schema() -> dict[str, Any]:
    """Return the schema; [server] and [engine] have the settings of `bessemer serve`."""
    schema = msgspec.json.schema(ConfigTables)
    keys = schema["$defs"]["ConfigTables"]["properties"]
    kinds = get_type_hints(Config, include_extras=True) | get_type_hints(
        Settings, include_extras=True
    )
    for table, names in TABLES.items():
        keys[table] = {
            "type": "object",
            "description": f"What `bessemer serve` has flags for: [{table}].",
            "additionalProperties": False,
            "properties": {
                name: setting_schema(name, *get_args(kinds[name]))
                for name in SETTINGS
                if name in names
            },
        }
    return {"$schema": DIALECT, "title": "Bessemer's config.toml", **schema}


def setting_schema(name: str, kind: Any, flag: Flag) -> dict[str, Any]:
    """Return what a setting takes in a file."""
    allowed = _allowed(kind, flag)
    if flag.auto:
        allowed = {"anyOf": [allowed, {"const": "auto"}]}
    if SETTINGS[name].repeated:
        allowed = {"anyOf": [allowed, {"type": "array", "items": allowed}]}
    value = plain_setting(name, Config())
    default = {} if value in ("", []) else {"default": value}
    return {"description": flag.help, **allowed, **default}


def plain_setting(name: str, config: Config) -> Any:
    """Return a setting's value as a file has it: sizes in MiB, and auto for 0 where it is that."""
    value = getattr(config if hasattr(config, name) else config.model, name)
    if SETTINGS[name].default == "auto" and not value:
        return "auto"
    if SETTINGS[name].metavar == "BYTES" and value % 2**20 == 0:
        return f"{value // 2**20}MiB"
    return list(value) if isinstance(value, tuple) else value


def _allowed(kind: Any, flag: Flag) -> dict[str, Any]:
    if get_origin(kind) is Literal:
        return {"enum": [each for each in get_args(kind) if each or not flag.auto]}
    if flag.metavar == "LEVEL":
        return {"enum": list(LEVELS)}
    if flag.metavar == "BYTES":
        return {"anyOf": [{"type": "number", "minimum": 1}, {**TEXT, "pattern": SIZE}]}
    if kind is float:
        return {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 10**9}
    if kind is int:
        return {"type": "integer", "minimum": flag.min, "maximum": flag.max}
    return {"type": "boolean"} if kind is bool else {**TEXT, "pattern": r"\S"}
