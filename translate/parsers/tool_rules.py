"""The rules of a grammar of calls, in llguidance's Lark: texts, marks, JSON, and lists of pairs.

Its Lark is described in https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from msgspec import json

from ...engine.text.lark import ANY, guided, parts

Pair = tuple[str, str, bool]  # what is before a value, the value, and whether it has to come


class Rules:
    """The rules of a grammar, as they are asked for; each has a name of its own.

    `specials` are the ids of special tokens; `fields` are those that JSON schemas came in.
    """

    def __init__(self, specials: Mapping[str, int]) -> None:
        self.fields: list[str] = []
        self._specials = specials
        self._names = count()
        self._rules: list[str] = []

    def grammar(self, start: str) -> str:
        return "\n".join([f"start: {start}", *self._rules])

    def name(self) -> str:
        """Return a name for a rule that is to be written later."""
        return f"r{next(self._names)}"

    def write(self, name: str, body: str) -> None:
        self._rules.append(f"{name}: {body}")

    def rule(self, body: str, flags: str = "") -> str:
        name = self.name()
        self.write(name + flags, body)
        return name

    def json(self, schema: Mapping[str, Any], field: str, strict: bool = True) -> str:
        self.fields.append(field)
        return self.rule(f"%json {json.encode(guided(schema, strict)).decode()}")

    def lark(self, grammar: str) -> str:
        return self.rule(f"%lark {{\n{grammar}\n}}")

    def literal(self, text: str) -> str:
        """Return a text as Lark has it: quoted, but for special tokens."""
        return " ".join(parts(text, self._specials))

    def is_special(self, mark: str) -> bool:
        return mark.startswith(tuple(self._specials))

    def text(self, without: Sequence[str] = ()) -> str:
        """Return any text without special tokens, and without some marks."""
        marks = "|".join(_escaped(mark) for mark in without if not self.is_special(mark))
        if not marks:
            return ANY
        name = self.name().upper()
        self.write(name, f"{ANY} & ~/(?s:.*)({marks})(?s:.*)/")
        return name

    def until(self, mark: str, text: str = ANY) -> str:
        """Return any text, or one of a kind, up to a mark, which is its first."""
        body = f"{text} {self.literal(mark)}"
        return body if self.is_special(mark) else self.rule(body, "[lazy]")

    def listed(self, pairs: Sequence[Pair], comma: str) -> str:
        """Return pairs in their order, with commas between those that come."""
        rest = begun = self.rule('""')
        for before, value, required in reversed(pairs):
            pair = f"{before} {value}"
            rest, begun = (
                self.rule(f"{pair} {begun}" + ("" if required else f" | {rest}")),
                self.rule(f"{comma} {pair} {begun}" + ("" if required else f" | {begun}")),
            )
        return rest


def _escaped(mark: str) -> str:
    """Return a mark in a regular expression of Lark's, which stands between slashes."""
    return re.escape(mark).replace("/", r"\/")
