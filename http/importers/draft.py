"""A config.toml in the making: each value with the key that it came from, and what was left out."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from ..config import UsageError, read_config
from ..gateway.checks import RESERVED
from ..gateway.config_file import ConfigFile, ConfigMistake, checked, dotted
from ..gateway.schema import NO_TABLES, ConfigTables
from .toml_text import key_text

Key = tuple[str | int, ...]

UNKNOWN = "no such key is known here"
DONE = ""  # in place of a reason: of a key that is carried over with others
SETTINGS = ("server", "engine")
WHOLE = ("default", "auto_router")  # left out as wholes; of other tables, their entries are
NAMED = ("providers", "tiers", "routes")  # where names have few characters
STEP = re.compile(r"\[\]|[^.\[]+")
ANY = ("*", "[]")


class LeftOut(Exception):
    """Why a value is not carried over."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value, and the key that it came from."""

    value: Any
    source: Key


@dataclass(frozen=True, slots=True)
class To:
    """The key that a value is carried to; `convert` may raise LeftOut.

    Each * and [] is what those of the rule's own key are, in their order.
    """

    key: str
    convert: "Callable[[Draft, Any], Any] | None" = None


# What becomes of a key: it is carried, left out for a reason, or a function sees to it.
Rule = To | str | Callable[["Draft", Key, Any], None]
Rules = Mapping[str, Rule]  # by a key, in which * is any name, and [] any entry of a list


class Draft:
    """What is carried over, and `left`: why a key is not, by the key."""

    def __init__(self) -> None:
        self.left: dict[Key, str] = {}
        self._tables: dict[Any, Any] = {}  # lists of tables are tables under numbers
        self._sources: set[Key] = set()  # of values, also of those that others have as well
        self._names: dict[tuple[str, str], str] = {}
        self._models: dict[str, tuple[str | None, Key]] = {}  # by path, names and keys

    def carry(self, value: Any, rules: Rules, at: Key = (), into: Key = ()) -> None:
        """Carry over what is in a value, which stands at a key; nulls say nothing."""
        _Walk(self, [(_steps(key), rule) for key, rule in rules.items()], at, into).walk(value)

    def put(self, key: Key, value: Any, source: Key) -> None:
        """Carry a value over to a key, unless there is one already."""
        table = self._tables
        for part in key[:-1]:
            table = table.setdefault(part, {})
        there = table.setdefault(key[-1], Value(value, source))
        if there.value == value:
            self._sources.add(source)
        else:
            self.left[source] = f"{dotted(key)} has another value already"

    def name(self, table: str, name: str) -> str:
        """Return what an entry of a table is called here: always the same, and no other's."""
        if (table, name) not in self._names:
            taken = {own for (other, _), own in self._names.items() if other == table}
            allowed = _allowed(table, name)
            others = (f"{allowed}-{number}" for number in count(2))
            free = allowed if allowed not in taken else next(n for n in others if n not in taken)
            self._names[table, name] = free
        return self._names[table, name]

    def model(self, path: Any, name: str | None, source: Key) -> tuple[str, Key]:
        """Carry a model over, once for each path; return what it is called here, and its key.

        A name that is not its own leads to it as an alias; without one it goes by its path's.
        """
        own, key = name and re.sub(r"[=/\s]+", "-", name).strip("-"), ("models", len(self._models))
        own, key = self._models.setdefault(str(path), (own, key))
        self.put((*key, "path"), path, source)
        if own is not None:
            self.put((*key, "name"), own, source)
        if name not in (None, own):
            self.put(("aliases", name), own or str(path), source)
        return own or str(path), key

    def leads(self, name: str) -> str | None:
        """Return the target that a name leads to; None where it is none of this draft's."""
        if name in self._tables.get("aliases", {}):
            return str(self._tables["aliases"][name].value)
        provider = name.partition("/")[0]
        models = {own or path for path, (own, _) in self._models.items()}
        return name if name in models or provider in self._tables.get("providers", {}) else None

    def sources(self) -> set[Key]:
        """Return the keys of the file that are carried over, whole or in part."""
        return set(self._sources)

    def finished(self) -> ConfigFile:
        """Return the file that passes every check, without what does not."""
        while True:
            try:
                return self._checked()
            except ConfigMistake as mistake:
                self._drop(mistake)

    def _checked(self) -> ConfigFile:
        file = checked(self.tables(), ConfigFile(NO_TABLES, Path("the result")))
        for table in SETTINGS:
            for name, value in getattr(file.tables, table).items():
                try:
                    read_config({}, {}, {name: ("", value)})
                except UsageError as error:
                    raise ConfigMistake("", (table, name), str(error).strip()) from None
        return file

    def tables(self) -> dict[str, Any]:
        """Return the tables as they are written, in the order of the schema."""
        names = ConfigTables.__struct_fields__
        return {name: _plain(self._tables[name]) for name in names if name in self._tables}

    def _drop(self, mistake: ConfigMistake) -> None:
        """Leave out an entry with a mistake in it: half of one would mean something else."""
        key = self._numbered(mistake.key)
        entry = key[: 1 if key[0] in WHOLE else 2]
        table = self._tables if len(entry) == 1 else self._tables.get(entry[0], {})
        if entry[-1] not in table:
            raise mistake
        dropped = list(_values(table.pop(entry[-1]), entry))
        whole = f"goes with the rest of it: {dotted(mistake.key)} {mistake.problem}"
        self.left |= {value.source: whole for _, value in dropped}
        self._sources -= {value.source for _, value in dropped}
        at_fault = (value for own, value in dropped if own == key[: len(own)])
        self.left |= {value.source: mistake.problem for value in at_fault}
        if not table:
            self._tables.pop(entry[0], None)

    def _numbered(self, key: Key) -> Key:
        """Return a key with the number that an entry of a list had before others were dropped."""
        if len(key) > 1 and isinstance(key[1], int):
            return key[0], sorted(self._tables[key[0]])[key[1]], *key[2:]
        return key


@dataclass(frozen=True, slots=True)
class _Walk:
    """The way through a value by rules; `at` is where it stands, `into` where it is carried to."""

    draft: Draft
    rules: list[tuple[Key, Rule]]
    at: Key
    into: Key

    def walk(self, value: Any, below: Key = ()) -> None:
        found = [(steps, rule) for steps, rule in self.rules if _fits(below, steps)]
        inner = any(_fits(below, steps[: len(below)]) for steps, _ in self.rules)
        if value is None:
            return
        if found:
            self._follow(*found[0], value, below)
        elif inner and isinstance(value, dict | list):
            for name, each in value.items() if isinstance(value, dict) else enumerate(value):
                self.walk(each, (*below, name))
        else:
            self.draft.left[*self.at, *below] = UNKNOWN

    def _follow(self, steps: Key, rule: Rule, value: Any, below: Key) -> None:
        source = (*self.at, *below)
        if isinstance(rule, To):
            try:
                value = rule.convert(self.draft, value) if rule.convert else value
            except LeftOut as why:
                self.draft.left[source] = str(why)
            else:
                self.draft.put((*self.into, *self._target(rule.key, steps, below)), value, source)
        elif not isinstance(rule, str):
            rule(self.draft, source, value)
        elif rule != DONE:
            self.draft.left[source] = rule

    def _target(self, key: str, steps: Key, below: Key) -> Iterator[str | int]:
        target = _steps(key)
        meant = (i for i, step in enumerate(steps) if step in ANY)
        for step in target:
            if step not in ANY:
                yield step
                continue
            i = next(meant)
            own = self.draft.name(str(target[0]), str(below[i])) if step == "*" else below[i]
            if own != below[i]:
                self.draft.left[(*self.at, *below[: i + 1])] = f"is called {own} here"
            yield own


def has(value: Any, key: str) -> bool:
    """Return whether there is a value at a rule's key."""
    return _has(value, _steps(key))


def shown(key: Key) -> str:
    """Return a key as people write it, quoted where it has to be."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{key_text(part)}" for part in key)
    return "".join(parts).removeprefix(".")


def _has(value: Any, steps: Key) -> bool:
    if not steps:
        return True
    step, *others = steps
    if isinstance(value, list):
        return step == "[]" and any(_has(each, tuple(others)) for each in value)
    if not isinstance(value, dict):
        return False
    below = value.values() if step == "*" else [value[step]] if step in value else []
    return any(_has(each, tuple(others)) for each in below)


def _steps(key: str) -> Key:
    return tuple(STEP.findall(key))


def _fits(key: Key, steps: Iterable[str | int]) -> bool:
    wanted = tuple(steps)
    return len(key) == len(wanted) and all(
        step == "[]" if isinstance(part, int) else step in (part, "*")
        for part, step in zip(key, wanted, strict=True)
    )


def _allowed(table: str, name: str) -> str:
    if table not in NAMED:
        return name
    allowed = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-._") or "unnamed"
    return f"{allowed}-{table[:-1]}" if allowed in RESERVED else allowed


def _plain(node: Any) -> Any:
    if isinstance(node, Value):
        return node.value
    if node and all(isinstance(each, int) for each in node):
        return [_plain(node[each]) for each in sorted(node)]
    return {name: _plain(each) for name, each in node.items()}


def _values(node: Any, key: Key) -> Iterator[tuple[Key, Value]]:
    if isinstance(node, Value):
        yield key, node
    else:
        for name, each in node.items():
            yield from _values(each, (*key, name))
