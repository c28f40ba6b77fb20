"""The ways in which models write one call: its name and its arguments, read while they come."""

import re
from dataclasses import dataclass
from typing import Protocol

from msgspec import json

from .parameter_types import as_json
from .scanner import Broken, Out, Reading, Scanner
from .values import JSON, PYTHON, Style, escaped, members, read_object, read_text, read_value

NAME = re.compile(r"[\w.-]+")
PARAMETER = re.compile(r"\w+")
NAMES = ("name", "tool_name")
ARGUMENTS = ("arguments", "parameters")
STRING = frozenset({"string"})


class Sink(Protocol):
    """What takes a call: its name first, then pieces of its arguments as JSON text."""

    def begin(self, name: str, id: str = "") -> None:
        """Begin a call. Raises Broken where there is no tool of that name."""
        ...

    def add(self, piece: str) -> None: ...

    def end(self) -> None:
        """Say that the arguments are whole."""
        ...

    def types(self, parameter: str) -> frozenset[str]:
        """Return the types that a parameter of the call may have."""
        ...


class Syntax(Protocol):
    """A way to write a call; `begins`: the marks that it may begin with, which tell it."""

    @property
    def begins(self) -> tuple[str, ...]: ...

    def read(self, scanner: Scanner, sink: Sink) -> Reading[None]:
        """Read one call. Raises Broken where the text is none."""
        ...


@dataclass(frozen=True, slots=True)
class ObjectCall:
    """A JSON object with a name and arguments, in either order; its other members are left out."""

    begins: tuple[str, ...] = ("{",)

    def read(self, scanner: Scanner, sink: Sink) -> Reading[None]:
        call = _Members(scanner, sink)
        yield from members(scanner, "{}", call.member, _nowhere)
        call.finish()


class _Members:
    """The members of a call that is an object: arguments wait for its name."""

    def __init__(self, scanner: Scanner, sink: Sink) -> None:
        self._scanner, self._sink = scanner, sink
        self._name = ""
        self._begun = False
        self._waiting: list[str] | None = None  # arguments that came before the name

    def member(self) -> Reading[None]:
        scanner = self._scanner
        key = yield from _string(scanner)
        yield from scanner.skip_space()
        yield from scanner.expect(":")
        yield from scanner.skip_space()
        first = yield from scanner.peek()
        if key == "function" and first == "{":
            yield from members(scanner, "{}", self.member, _nowhere, 1)
        elif (key in NAMES or key == "function") and first == '"':
            if self._name:
                raise Broken
            self._name = yield from _string(scanner)
        elif key in ARGUMENTS:
            yield from self._arguments(first)
        else:
            yield from read_value(scanner, JSON, _nowhere, 1)

    def finish(self) -> None:
        """Begin what has no arguments, or had them before its name."""
        if not self._begun:
            self._sink.begin(self._name)
            self._sink.add("".join(self._waiting or ()) or "{}")
            self._sink.end()

    def _arguments(self, first: str) -> Reading[None]:
        if self._begun or self._waiting is not None:
            raise Broken
        if self._name:
            self._sink.begin(self._name)
            self._begun = True
        else:
            self._waiting = []
        out: Out = self._sink.add if self._waiting is None else self._waiting.append
        if first == '"':
            out(_object_in((yield from _string(self._scanner))))
        elif first == "n":
            yield from self._scanner.expect("null")
            out("{}")
        else:
            yield from read_object(self._scanner, JSON, out)
        if self._begun:
            self._sink.end()


@dataclass(frozen=True, slots=True)
class KeyedCall:
    """A JSON object whose only key is the name, and whose value are the arguments."""

    begins: tuple[str, ...] = ("{",)

    def read(self, scanner: Scanner, sink: Sink) -> Reading[None]:
        yield from scanner.expect("{")
        yield from scanner.skip_space()
        sink.begin((yield from _string(scanner)))
        yield from scanner.skip_space()
        yield from scanner.expect(":")
        yield from scanner.skip_space()
        yield from read_object(scanner, JSON, sink.add)
        sink.end()
        yield from scanner.skip_space()
        yield from scanner.expect("}")


@dataclass(frozen=True, slots=True)
class NamedCall:
    """A name and an object, with marks `between` where they are needed.

    `head`, of which what stands before them has the form, has the groups name and, where a call
    may bring its own, id; an id may also follow an `id_mark`. `fenced`: the head may be a word, the
    name a line after the mark, and the object in a fence.
    """

    between: tuple[str, ...] = ()
    head: re.Pattern[str] = re.compile(r"(?P<name>.+)")
    style: Style = JSON
    id_mark: str = ""
    fenced: bool = False
    begins: tuple[str, ...] = ()

    def read(self, scanner: Scanner, sink: Sink) -> Reading[None]:
        marks = [mark for mark in (*self.between, self.id_mark) if mark]
        head, mark = yield from scanner.until_short(*marks, "{")
        id_ = ""
        if mark and mark == self.id_mark:
            id_, mark = yield from scanner.until_short(*self.between)
        if mark == "{":
            scanner.at -= 1
        yield from scanner.skip_space()
        fence = ""
        if self.fenced and (yield from scanner.peek()) != "{":
            head, _ = yield from scanner.until_short("\n")
            fence = yield from scanner.take("```json", "```")
            yield from scanner.skip_space()
        named = self.head.fullmatch(head.strip())
        if named is None:
            raise Broken
        groups = named.groupdict()
        sink.begin(groups["name"], id_.strip() or groups.get("id") or "")
        yield from read_object(scanner, self.style, sink.add)
        sink.end()
        if fence:
            yield from scanner.skip_space()
            yield from scanner.expect("```")


@dataclass(frozen=True, slots=True)
class TaggedCall:
    """A name between tags, and a pair of key and value for each parameter, in tags too.

    `lines`: a value stands on lines of its own. Values of parameters that are not strings are JSON,
    if they are that of a type that the parameter may have.
    """

    open: str
    name_ends: tuple[str, ...]
    key: str
    key_ends: tuple[str, ...]
    value_end: str
    close: str
    value: str = ""
    lines: bool = False

    @property
    def begins(self) -> tuple[str, ...]:
        return (self.open,) if self.open else ()

    def read(self, scanner: Scanner, sink: Sink) -> Reading[None]:
        if self.open:
            yield from scanner.expect(self.open)
        name, end = yield from scanner.until_short(*self.name_ends)
        if end in (self.key, self.close):
            scanner.at -= len(end)
        sink.begin(name.strip())
        before = "{"
        while True:
            yield from scanner.skip_space()
            if not (yield from scanner.take(self.key)):
                break
            yield from self._parameter(scanner, sink, before)
            before = ", "
        if self.open:
            yield from scanner.expect(self.close)
        elif not (yield from scanner.ahead(self.close)):
            raise Broken
        sink.add("{}" if before == "{" else "}")
        sink.end()

    def _parameter(self, scanner: Scanner, sink: Sink, before: str) -> Reading[None]:
        key, _ = yield from scanner.until_short(*self.key_ends)
        sink.add(f'{before}"{escaped(key.strip())}": ')
        if self.value:
            yield from scanner.skip_space()
            yield from scanner.expect(self.value)
        if self.lines:
            yield from scanner.take("\n")
        ends = ("\n" + self.value_end, self.value_end) if self.lines else (self.value_end,)
        types = sink.types(key.strip())
        if types == STRING:
            sink.add('"')
            yield from scanner.until(ends, lambda piece: sink.add(escaped(piece)))
            sink.add('"')
            return
        pieces: list[str] = []
        yield from scanner.until(ends, pieces.append)
        text = "".join(pieces)
        sink.add(as_json(text, types) or f'"{escaped(text)}"')


@dataclass(frozen=True, slots=True)
class PythonCall:
    """A call as Python writes it, all of its arguments named."""

    begins: tuple[str, ...] = ()

    def read(self, scanner: Scanner, sink: Sink) -> Reading[None]:
        def argument() -> Reading[None]:
            sink.add('"' + escaped((yield from scanner.match(PARAMETER))[0]) + '": ')
            yield from scanner.skip_space()
            yield from scanner.expect("=")
            yield from scanner.skip_space()
            yield from read_value(scanner, PYTHON, sink.add, 1)

        sink.begin((yield from scanner.match(NAME))[0])
        yield from scanner.skip_space()
        yield from members(scanner, "()", argument, sink.add, 0, False, "{}")
        sink.end()


def _nowhere(piece: str) -> None:
    """Leave out what no client is to read."""


def _string(scanner: Scanner) -> Reading[str]:
    """Return a JSON string's text."""
    pieces: list[str] = []
    yield from read_text(scanner, JSON, pieces.append)
    return json.decode("".join(pieces), type=str)


def _object_in(text: str) -> str:
    """Return a JSON text that stood in a string, if it is that of an object."""
    try:
        value = json.decode(text or "{}")
    except ValueError:
        raise Broken from None
    if not isinstance(value, dict):
        raise Broken
    return text or "{}"
