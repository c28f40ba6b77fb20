"""Tables as the text of a TOML file."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

BARE = re.compile(r"[A-Za-z0-9_-]+")
WIDEST = 88  # characters of a list on one line


def toml_text(tables: Mapping[str, Any]) -> str:
    """Return tables of texts, numbers, truths, lists and tables as tomllib reads them again."""
    return "".join(f"{line}\n" for line in _table(tables, ())).lstrip("\n")


def key_text(name: str) -> str:
    """Return a key as TOML spells it: quoted where it has to be."""
    return name if BARE.fullmatch(name) else _string(name)


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Yield a table's own keys, then the tables in it, each under its header."""
    below = {name: value for name, value in table.items() if _is_below(value)}
    yield from (f"{key_text(k)} = {_value(v)}" for k, v in table.items() if k not in below)
    for name, value in below.items():
        inner = (*path, name)
        header = ".".join(map(key_text, inner))
        many = isinstance(value, list)
        for each in value if many else [value]:
            alone = not each or not all(map(_is_below, each.values()))
            if many or alone:  # else the headers of the tables in it say that it is there
                yield from ("", f"[[{header}]]" if many else f"[{header}]")
            yield from _table(each, inner)


def _is_below(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(each, dict) for each in value)
    return isinstance(value, dict)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        parts = [_value(each) for each in value]
        line = f"[{', '.join(parts)}]"
        return line if len(line) <= WIDEST else "[\n  " + ",\n  ".join(parts) + ",\n]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key_text(k)} = {_value(v)}" for k, v in value.items()) + "}"
    return repr(value)


def _string(text: str) -> str:
    """Return a text in quotes: JSON's escapes are TOML's, which has DEL escaped as well."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
