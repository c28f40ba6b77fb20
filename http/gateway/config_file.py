"""config.toml: found, read with the environment laid over it, and checked key by key."""

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from ...engine.settings import Settings
from ...translate.decode import problem_of
from ..config import DIRECTORY, SETTINGS, UsageError
from .checks import check
from .schema import ConfigTables, KeyTable, PriceTable, ProviderTable, TierTable

NESTED = re.compile(r"BESSEMER_([A-Z0-9_]+?__[A-Za-z0-9_]+)")  # BESSEMER_PROVIDERS__OPENAI__URL
HEADER = re.compile(r"\s*\[{1,2}\s*([^\]]+?)\s*\]{1,2}\s*(?:#.*)?$")
KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
UNKNOWN = re.compile(r"Object contains unknown field `(.+?)`(?: - at `\$(.*)`)?")
MISSING = re.compile(r"Object missing required field `(.+?)`(?: - at `\$(.*)`)?")
PLACE = re.compile(r" - at `(?:key` in `)?\$(.*)`$")
URL = "Expected `str` matching regex '^https?://[^ ]+$'"
FORMS = {URL: "must begin with http:// or https://"}
# Tables of tables under names that users choose.
NAMED: Mapping[str, type[msgspec.Struct]] = {
    "providers": ProviderTable,
    "tiers": TierTable,
    "keys": KeyTable,
    "prices": PriceTable,
}

ENGINE = frozenset(Settings.__struct_fields__) & SETTINGS.keys()
TABLES: Mapping[str, Collection[str]] = {
    "server": SETTINGS.keys() - ENGINE - {"models", "chat_template", "tool_parser"},
    "engine": ENGINE,
}

Path_ = tuple[str | int, ...]


class ConfigMistake(UsageError):
    """A key that cannot be meant: where it stands, and what is wrong with its value."""

    def __init__(self, where: str, key: Path_, problem: str) -> None:
        super().__init__(f"{where} {problem}")
        self.key, self.problem = key, problem


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file's tables, its text, which says where a key stands, and the variables over it."""

    tables: ConfigTables
    path: Path
    text: str = ""
    variables: Mapping[Path_, str] = field(default_factory=dict)  # by the key that each sets

    def settings(self) -> dict[str, tuple[str, object]]:
        """Return the value of each setting that the file has, and where it stands.

        Raises UsageError for a key of [server] or [engine] that is none.
        """
        found: dict[str, tuple[str, object]] = {}
        for table in ("server", "engine"):
            for name, value in getattr(self.tables, table).items():
                if name not in TABLES[table]:
                    raise self.mistake((table, name), f"is no key{_close(name, TABLES[table])}")
                found[name] = self.where((table, name)), value
        if models := self.tables.models:
            found["models"] = (
                self.where(("models",)),
                [_named(each.name, each.path) for each in models],
            )
            for name in ("chat_template", "tool_parser"):
                given = [(each.name, getattr(each, name)) for each in models]
                if files := [_named(own, text) for own, text in given if text is not None]:
                    found[name] = self.where(("models",)), files
        return found

    def where(self, key: Path_) -> str:
        return f"{self.place(key)}: {dotted(key)}"

    def place(self, key: Path_) -> str:
        """Return the variable that sets a key, or the file and the line where it stands."""
        for end in range(len(key), 0, -1):
            if variable := self.variables.get(key[:end]):
                return variable
        line = line_of(self.text, key)
        return f"{self.path}, line {line}" if line else str(self.path)

    def mistake(self, key: Path_, problem: str) -> ConfigMistake:
        """Return the error that a key's value is: file, line, key and what was meant."""
        return ConfigMistake(self.where(key), key, problem)


def directory(environment: Mapping[str, str]) -> Path:
    """Return where settings are kept. Raises UsageError where there is no home to look in."""
    if given := environment.get(DIRECTORY):
        return Path(given).expanduser()
    home = environment.get("XDG_CONFIG_HOME") or "~/.config"
    try:
        return Path(home).expanduser() / "bessemer"
    except RuntimeError:
        raise UsageError(f"there is no home directory for settings; set {DIRECTORY}") from None


def find(environment: Mapping[str, str], file: str = "", profile: str = "") -> Path | None:
    """Return the file to read: the one named, a profile's, or the usual one, if it is there."""
    if file and profile:
        raise UsageError("--config and --profile name two files; give one of them")
    name = f"config.{profile}.toml" if profile else "config.toml"
    path = Path(file).expanduser() if file else directory(environment) / name
    if path.is_file():
        return path
    if not (file or profile):
        return None
    others = sorted(each.name for each in path.parent.glob("config*.toml"))
    known = f"; {path.parent} has {', '.join(others)}" if others else ""
    raise UsageError(f"there is no file {path}{known}")


def read(path: Path | None, environment: Mapping[str, str]) -> ConfigFile:
    """Read a file (None: an empty one) and what the environment says. Raises UsageError."""
    text, values = ("", {}) if path is None else _load(path)
    path = path or Path("the environment")
    variables = {
        _put(values, key, value): f"BESSEMER_{'__'.join(key)}"
        for key, value in _nested(environment)
    }
    return checked(values, ConfigFile(ConfigTables(), path, text, variables))


def checked(values: dict[str, Any], file: ConfigFile) -> ConfigFile:
    """Return a file with the tables of these values. Raises ConfigMistake."""
    file = replace(file, tables=_tables(values, file))
    check(file.tables, file.mistake)
    return file


def _load(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        return text, tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (at byte {error.start})") from None
    except OSError as error:
        raise UsageError(f"{path} could not be read: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is no TOML: {error}") from None


def _nested(environment: Mapping[str, str]) -> Iterator[tuple[list[str], Any]]:
    for name, text in sorted(environment.items()):
        if (match := NESTED.fullmatch(name)) and text:
            yield match[1].split("__"), _value(text)


def _value(text: str) -> Any:
    """Return a list or a table that a variable spells as TOML does, or else its text."""
    if text[0] in "[{":
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text
    return text


def _put(values: dict[str, Any], key: list[str], value: Any) -> Path_:
    """Lay a value over a file's, whose keys are meant whatever their case; return its key."""
    table: Any = values
    path: Path_ = ()
    for i, part in enumerate(key):
        name: Any = _entry(table, part, key)
        path = (*path, name)
        if i == len(key) - 1:
            table[name] = value
            break
        table = table[name] if isinstance(table, list) else table.setdefault(name, {})
        if not isinstance(table, dict | list):
            raise UsageError(f"BESSEMER_{'__'.join(key)}: {name} is no table")
    return path


def _entry(table: dict[str, Any] | list[Any], part: str, key: list[str]) -> str | int:
    if isinstance(table, dict):
        return next((each for each in table if each.lower() == part.lower()), part.lower())
    if not part.isdigit() or int(part) >= len(table):
        known = f"it has {len(table)}, from 0"
        raise UsageError(f"BESSEMER_{'__'.join(key)} names no entry of the list: {known}")
    return int(part)


def _tables(values: dict[str, Any], file: ConfigFile) -> ConfigTables:
    read = dict(values)
    for name, kind in NAMED.items():
        if isinstance(tables := values.get(name), dict):
            read[name] = {
                each: _convert(table, kind, (name, each), file) for each, table in tables.items()
            }
    whole: ConfigTables = _convert(read, ConfigTables, (), file)
    return whole


def _convert(value: Any, kind: type[Any], key: Path_, file: ConfigFile) -> Any:
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _told(str(error), kind, key, file) from None


def _told(error: str, kind: type[Any], key: Path_, file: ConfigFile) -> UsageError:
    """Say what msgspec found wrong, by the key as the file has it."""
    if match := UNKNOWN.fullmatch(error):
        place = (*key, *_place(match[2]))
        return file.mistake((*place, match[1]), f"is no key{_near(match[1], kind, place)}")
    if match := MISSING.fullmatch(error):
        place = (*key, *_place(match[2]))
        return file.mistake(place, f"needs the key {match[1]}")
    at = PLACE.search(error)
    what, place = PLACE.sub("", error), (*key, *_place(at and at[1]))
    allowed = _allowed(kind, place)
    problem = f"must be {' or '.join(allowed)}" if allowed else FORMS.get(what)
    return file.mistake(place, problem or problem_of(what)[1])


def _place(path: str | None) -> Path_:
    parts = re.findall(r"\.([\w-]+)|\[(\d+)\]", path or "")
    return tuple(int(index) if index else name for name, index in parts)


def _near(name: str, kind: type[Any], place: Path_) -> str:
    """Return what keys there are, or the one that was meant."""
    return _close(name, _keys(kind, place))


def _close(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known))}"


def _named(name: str | None, value: str) -> str:
    return value if name is None else f"{name}={value}"


def _keys(kind: type[Any], place: Path_) -> list[str]:
    return [each.encode_name for each in _type_at(kind, place).fields]


def _allowed(kind: type[Any], place: Path_) -> list[str]:
    """Return the words that a key may have for a value, where it is one of a few."""
    info = _type_at(kind, place)
    return [*map(str, info.values)] if isinstance(info, msgspec.inspect.LiteralType) else []


def _type_at(kind: type[Any], place: Path_) -> Any:
    """Return the type at a place within a file, or within one of its NAMED tables."""
    info: Any = msgspec.inspect.type_info(kind)
    for part in place[2:] if place[:1] and place[0] in NAMED else place:
        if isinstance(info, msgspec.inspect.StructType):
            info = next((each.type for each in info.fields if each.encode_name == part), None)
        else:
            info = getattr(info, "item_type", None)
        while isinstance(info, msgspec.inspect.Metadata):
            info = info.type
    return info


def dotted(key: Path_) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return text.removeprefix(".") or "the file"


def line_of(text: str, key: Path_) -> int | None:
    """Return the line, from 1, on which a key or the innermost table around it stands."""
    best: tuple[int, int] | None = None
    for number, at in _keys_of_lines(text):
        if at == key[: len(at)] and (best is None or len(at) > best[0]):
            best = len(at), number
    return best[1] if best else None


def _keys_of_lines(text: str) -> Iterator[tuple[int, Path_]]:
    table: Path_ = ()
    seen: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := HEADER.match(line):
            names = tuple(part.strip("\"'") for part in PART.findall(header[1]))
            table = names
            if line.lstrip().startswith("[["):
                seen[names] = seen.get(names, -1) + 1
                table = (*names, seen[names])
            yield number, table
        elif entry := KEY.match(line):
            yield number, (*table, *(part.strip("\"'") for part in PART.findall(entry[1])))
