"""Grammars of calls, in llguidance's Lark: answers that must call, and calls that keep to schemas.

Its Lark is described in https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from msgspec import json

from ...engine.request import Constraint, Refusal
from ...engine.text.lark import ANY, GUIDANCE, parts, quoted
from ..chat import Chat, ResponseFormat, Tool
from ..decode import invalid
from .calls import TaggedCall
from .json_spelling import SpellingError, spelled_lark
from .parameter_types import ALL, parameter_types, text_choices, text_limits
from .tool_formats import ToolFormat
from .tool_shape import ARGUMENTS, INDEX, NAME, PARAMETERS, TAGS

MARKS = re.compile("(NAME|INDEX|ARGUMENTS|PARAMETERS|TAGS)")
NO_CALL = r"/([^{\[\s](?s:.)*)?/"  # an answer that does not begin as calls without marks do
KEY = r"/[A-Za-z_][A-Za-z0-9_-]{0,63}/"
FREE = {"type": "object"}
# Keywords of a schema that lists all that there is.
LISTED = {"type", "properties", "required", "title", "description", "$defs", "definitions"}
Literal = Callable[[str], str]  # a text in Lark, special tokens by their ids


def tool_constraint(
    chat: Chat, tools: Sequence[Tool], format: ToolFormat, specials: Mapping[str, int]
) -> Constraint | None:
    """Return what an answer is held to because of its tools; None where any text will do.

    Raises Refusal for what cannot be held to.
    """
    required, parallel = chat.tool_choice.mode == "required", chat.tool_choice.parallel
    if not tools or not (required or any(tool.strict for tool in tools)):
        return _or_answer(chat, tools, format, specials)
    if not required and chat.response_format is not None:
        return _or_answer(chat, tools, format, specials)
    lark = _Lark(format, specials, "tool_choice" if required else "tools")
    if required:
        return _constraint(lark.grammar(lark.calls(tools, parallel)), heads=format.heads)
    if format.bare or format.heads:
        free = NO_CALL if format.bare else lark.final_message()
        calls = lark.calls(tools, parallel)
        return _constraint(lark.grammar(f"{calls} | {free}"), heads=format.heads)
    opener = format.open[0]
    calls = lark.calls(tools, parallel, opener)
    if not parallel:  # nothing comes after the one
        return _constraint(lark.grammar(f"{lark.until(opener)} {calls} | {ANY}"))
    return _constraint(lark.grammar(calls), after=opener)


def _or_answer(
    chat: Chat, tools: Sequence[Tool], format: ToolFormat, specials: Mapping[str, int]
) -> Constraint | None:
    """Return the grammar of calls or an answer in the form that is asked for, if one is."""
    form = chat.response_format
    if not tools or form is None:
        return None
    if format.bare:  # whose calls begin as such an answer does
        raise invalid(form.field, "cannot be had together with tools from this model")
    lark = _Lark(format, specials, form.field)
    if form.kind not in ("json_schema", "json_object"):
        raise invalid(form.field, "can be a JSON schema alone where there are tools")
    answer = lark.json(_schema_of(form))
    if format.heads:
        answer = f"{lark.final_head()} {answer}"
    grammar = lark.grammar(f"{lark.calls(tools, chat.tool_choice.parallel)} | {answer}")
    return _constraint(grammar, form.field, heads=format.heads)


def _schema_of(form: ResponseFormat) -> dict[str, Any]:
    try:
        schema = json.decode(form.definition or '{"type":"object"}')
    except ValueError:
        raise invalid(form.field, "is not JSON") from None
    if not isinstance(schema, dict):
        raise invalid(form.field, "must be a JSON schema, an object")
    return schema


def _constraint(
    grammar: str, field: str = "tools", after: str = "", heads: bool = False
) -> Constraint:
    return Constraint(grammar="lark", definition=grammar, after=after, field=field, heads=heads)


class _Lark:
    """The rules of a grammar, as they are asked for; each has a name of its own."""

    def __init__(self, format: ToolFormat, specials: Mapping[str, int], field: str) -> None:
        if format.shape is None:
            message = "This version of Bessemer cannot hold the calls of this model to a form yet."
            raise Refusal(400, "unsupported", message, field)
        self._shape, self._format = format.shape, format
        self._specials = specials
        self._names = count()
        self._rules: list[str] = []

    def grammar(self, start: str) -> str:
        return "\n".join([f"start: {start}", *self._rules])

    def rule(self, body: str, flags: str = "") -> str:
        name = f"r{next(self._names)}"
        self._rules.append(f"{name}{flags}: {body}")
        return name

    def json(self, schema: Mapping[str, Any]) -> str:
        guided = {**schema, **GUIDANCE}
        return self.rule(f"%json {json.encode(guided).decode()}")

    def lark(self, grammar: str) -> str:
        return self.rule(f"%lark {{\n{grammar}\n}}")

    def calls(self, tools: Sequence[Tool], parallel: bool, opener: str = "") -> str:
        """Return the calls of an answer: one or more; what comes after an `opener` of them."""
        shape = self._shape
        call = self.rule(" | ".join(self._call(tool, shape.each) for tool in tools))
        if opener and not shape.before:
            after_opener = (self._call(t, shape.each.removeprefix(opener)) for t in tools)
            return self.rule(" | ".join(after_opener))
        before = self.literal(shape.before.removeprefix(opener))
        more = f"({self.literal(shape.between)} {call})*" if parallel and self._repeats else ""
        return self.rule(f"{before} {call} {more} {self.literal(shape.after)}")

    def until(self, mark: str) -> str:
        """Return any text up to a mark, which is its first."""
        text = f"{ANY} {self.literal(mark)}"
        return text if mark.startswith(tuple(self._specials)) else self.rule(text, "[lazy]")

    @property
    def _repeats(self) -> bool:
        return not self._format.heads

    def literal(self, text: str) -> str:
        """Return a text as Lark has it: quoted, but for special tokens."""
        return " ".join(parts(text, self._specials))

    def final_head(self) -> str:
        return self.literal("<|channel|>final<|message|>")

    def final_message(self) -> str:
        return f"{self.final_head()} {ANY}"

    def _call(self, tool: Tool, shape: str) -> str:
        schema = _object(tool.parameters)
        written: Mapping[str, Callable[[], str]] = {
            NAME: lambda: quoted(tool.name),
            INDEX: lambda: "/[0-9]{1,3}/",
            ARGUMENTS: lambda: self.json(schema),
            PARAMETERS: lambda: self._parameters(schema),
            TAGS: lambda: self._tags(schema, tool.strict),
        }
        if tool.grammar is not None:
            written = {**written, **self._free_text(tool.grammar)}
        pieces = (p for p in MARKS.split(shape) if p)
        return " ".join(written[p]() if p in written else self.literal(p) for p in pieces)

    def _free_text(self, grammar: str) -> Mapping[str, Callable[[], str]]:
        """Return the ways in which the one argument of a tool of free text is written."""

        def spelled(before: str, after: str) -> str:
            try:
                inner = spelled_lark(grammar)
            except SpellingError as error:
                raise invalid("tools", str(error)) from None
            return f"{quoted(before)} {self.lark(inner)} {quoted(after)}"

        return {
            ARGUMENTS: lambda: spelled('{"input": "', '"}'),
            PARAMETERS: lambda: spelled('input="', '"'),
            TAGS: lambda: self._tagged_text(grammar),
        }

    def _tagged_text(self, grammar: str) -> str:
        (tagged,) = (each for each in self._format.syntaxes if isinstance(each, TaggedCall))
        line = "\n" if tagged.lines else ""
        opening = tagged.key_ends[0] + (f"\n{tagged.value}" if tagged.value else "") + line
        close = f"{line}{tagged.value_end}\n"
        before = self.literal(f"{tagged.key}input{opening}")
        return self.rule(f"{before} {self.lark(grammar)} {self.literal(close)}")

    def _parameters(self, schema: Mapping[str, Any]) -> str:
        """Return Python's arguments, in the schema's order, with commas between."""
        rest = begun = self.rule('""')
        for name, sub, required in reversed([*_members(schema)]):
            value = f"{quoted(name + '=')} {self.json(sub)}"
            rest, begun = (
                self.rule(f"{value} {begun}" + ("" if required else f" | {rest}")),
                self.rule(f'", " {value} {begun}' + ("" if required else f" | {begun}")),
            )
        return rest

    def _tags(self, schema: Mapping[str, Any], strict: bool) -> str:
        """Return pairs of key and value, in the schema's order; texts are free but for choices."""
        (tagged,) = (each for each in self._format.syntaxes if isinstance(each, TaggedCall))
        types = parameter_types(schema)
        for name, sub, _ in _members(schema) if strict else ():
            limits = text_limits(sub, sub)
            if limits and types[name] == {"string"} and not text_choices(sub, sub):
                said = ", ".join(f'"{each}"' for each in sorted(limits))
                raise invalid(
                    "tools", f"has limits of texts that calls of this model cannot keep: {said}"
                )
        pairs = [
            self._pair(tagged, self.literal(name), sub, types.get(name, ALL))
            + ("" if required else "?")
            for name, sub, required in _members(schema)
        ]
        if not pairs and schema.get("additionalProperties") is not False:
            pairs = [self._pair(tagged, KEY, {}, ALL) + "*"]
        return " ".join(pairs) or '""'

    def _pair(
        self, tagged: TaggedCall, key: str, schema: Mapping[str, Any], types: frozenset[str]
    ) -> str:
        choices = text_choices(schema, schema) if types == {"string"} else None
        text = types == {"string"} and not choices
        line = "\n" if tagged.lines else ""
        end = tagged.key_ends[-1] if text or len(tagged.key_ends) == 1 else tagged.key_ends[1]
        end = tagged.key_ends[0] if types == {"string"} else end
        opening = end + (f"\n{tagged.value}" if tagged.value else "") + line
        close = f"{line}{tagged.value_end}"
        if text or types == ALL:
            value = self.rule(f"{ANY} {self.literal(tagged.value_end)}", "[lazy]") + ' "\\n"'
        elif choices:
            texts = " | ".join(map(quoted, choices))
            value = f"({texts}) {self.literal(close + chr(10))}"
        else:
            value = f"{self.json(schema)} {self.literal(close + chr(10))}"
        return self.rule(f"{self.literal(tagged.key)} {key} {self.literal(opening)} {value}")


def _members(schema: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yield each property with its schema, whole in itself, and whether it is required."""
    properties, required = schema.get("properties"), schema.get("required")
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    for name, sub in properties.items() if isinstance(properties, dict) else ():
        needed = isinstance(required, list) and name in required
        yield name, {**shared, **(sub if isinstance(sub, dict) else {})}, needed


def _object(schema: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the schema of arguments: those that are listed alone, where others are not told of.

    A function knows no others, and a small model goes on to make them up.
    """
    schema = schema or {}
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict) or not properties or not schema.keys() <= LISTED:
        return {**schema, **FREE}
    names = required if isinstance(required, list) else []
    if not all(isinstance(name, str) and name in properties for name in names):
        return {**schema, **FREE}
    return {"additionalProperties": False, **schema, **FREE}
