"""Grammars of calls, in llguidance's Lark: answers that must call, and calls that keep to schemas.

Its Lark is described in https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from msgspec import json

from ...engine.request import Constraint
from ...engine.text.lark import ANY, quoted
from ..chat import Chat, ResponseFormat, Tool
from ..decode import invalid
from .calls import TaggedCall
from .json_spelling import SpellingError, spelled_lark
from .marked_grammar import MarkedValues
from .parameter_types import ALL, parameter_types, text_choices, text_limits
from .tool_formats import ToolFormat
from .tool_rules import Rules
from .tool_shape import ARGUMENTS, INDEX, MARKED, NAME, PARAMETERS, TAGS

FINAL = "<|channel|>final<|message|>"  # the head of the message for the reader
MARKS = re.compile("(NAME|INDEX|ARGUMENTS|PARAMETERS|TAGS|MARKED)")
NO_CALL = r"/([^{\[\s](?s:.)*)?/"  # an answer that does not begin as calls without marks do
KEY = r"/[A-Za-z_][A-Za-z0-9_-]{0,63}/"
FREE = {"type": "object"}
# Keywords of a schema that lists all that there is.
LISTED = {"type", "properties", "required", "title", "description", "$defs", "definitions"}


def tool_constraint(
    chat: Chat, tools: Sequence[Tool], format: ToolFormat, specials: Mapping[str, int]
) -> Constraint | None:
    """Return what an answer is held to because of its tools; None where any text will do.

    Raises Refusal for what cannot be held to.
    """
    choice, form = chat.tool_choice, chat.response_format
    if not tools or choice.mode == "none":
        return None
    required, rules = choice.mode == "required", Rules(specials)
    calls = _Calls(format, rules, tools, choice.parallel)
    if required:
        return _constraint(rules, calls.all(), format, "tool_choice")
    if form is not None:
        return _constraint(rules, _or_answer(form, calls, rules, format), format, form.field)
    if choice.parallel and not any(tool.strict for tool in tools):
        return None
    return _constraint(rules, calls.among_text(), format, "tools")


def _or_answer(form: ResponseFormat, calls: "_Calls", rules: Rules, format: ToolFormat) -> str:
    """Return the rule of calls or an answer in the form that is asked for."""
    if format.bare:  # whose calls begin as such an answer does
        raise invalid(form.field, "cannot be had together with tools from this model")
    if form.kind not in ("json_schema", "json_object"):
        raise invalid(form.field, "can be a JSON schema alone where there are tools")
    answer = rules.json(_schema_of(form), form.field, form.strict)
    head = rules.literal(FINAL) if format.heads else ""
    return f"{calls.all()} | {head} {answer}"


def _schema_of(form: ResponseFormat) -> dict[str, Any]:
    try:
        schema = json.decode(form.definition or '{"type":"object"}')
    except ValueError:
        raise invalid(form.field, "is not JSON") from None
    if not isinstance(schema, dict):
        raise invalid(form.field, "must be a JSON schema, an object")
    return schema


def _constraint(rules: Rules, start: str, format: ToolFormat, field: str) -> Constraint:
    lark, fields = rules.grammar(start), tuple(rules.fields)
    return Constraint(
        grammar="lark", definition=lark, field=field, fields=fields, heads=format.heads
    )


class _Calls:
    """The rules of calls in a model's format, of which there may be several where `parallel`."""

    def __init__(
        self, format: ToolFormat, rules: Rules, tools: Sequence[Tool], parallel: bool
    ) -> None:
        self._shape, self._format, self._rules = format.shape, format, rules
        self._tools, self._parallel = tools, parallel

    def all(self) -> str:
        """Return the calls of an answer that is nothing else: one or more."""
        return self._calls(self._shape.before, self._shape.each)

    def among_text(self) -> str:
        """Return calls in an answer whose text is free, in all ways in which they may begin."""
        rules, format = self._rules, self._format
        if format.bare:
            return f"{self.all()} | {NO_CALL}"
        if format.heads:
            return f"{self.all()} | {rules.literal(FINAL)} {ANY}"
        rests = {mark: rest for mark in format.open if (rest := self._after(mark))}
        text = rules.text([mark for mark in format.open if mark not in rests])
        begun = [f"{rules.until(mark, text)} {self._calls(*rest)}" for mark, rest in rests.items()]
        if self._parallel:
            return f"({' | '.join(begun)})* {text}"
        return f"{' | '.join(begun)} | {text}"  # nothing comes after the one

    def _after(self, mark: str) -> tuple[str, str] | None:
        """Return what is before the first call, and that, where a mark of them has been written."""
        shape = self._shape
        _, found, rest = shape.before.partition(mark)
        if found:
            return rest, shape.each
        _, found, rest = shape.each.partition(mark)
        return ("", rest) if found else None

    def _calls(self, before: str, first: str) -> str:
        shape, rules = self._shape, self._rules
        call = self._each if first == shape.each else self._call(first)
        if shape.before and first != shape.each:  # one of a section that has no beginning
            return call
        begun = f"{rules.literal(before)} {call}"
        if not self._parallel or self._format.heads:
            return rules.rule(f"{begun} {rules.literal(shape.after)}")
        more = f"({rules.literal(shape.between)} {self._each})*"
        return rules.rule(f"{begun} {more} {rules.literal(shape.after)}")

    @cached_property
    def _each(self) -> str:
        return self._call(self._shape.each)

    def _call(self, shape: str) -> str:
        return self._rules.rule(" | ".join(self._of(tool, shape) for tool in self._tools))

    def _of(self, tool: Tool, shape: str) -> str:
        rules, schema = self._rules, _object(tool.parameters)
        written: Mapping[str, Callable[[], str]] = {
            NAME: lambda: quoted(tool.name),
            INDEX: lambda: "/[0-9]{1,3}/",
            ARGUMENTS: lambda: rules.json(schema, tool.field, tool.strict),
            PARAMETERS: lambda: self._parameters(schema, tool),
            TAGS: lambda: self._tags(schema, tool),
            MARKED: lambda: self._marked(schema, tool),
        }
        if tool.grammar is not None:
            written = {**written, **self._free_text(tool.grammar)}
        pieces = (p for p in MARKS.split(shape) if p)
        return " ".join(written[p]() if p in written else rules.literal(p) for p in pieces)

    def _free_text(self, grammar: str) -> Mapping[str, Callable[[], str]]:
        """Return the ways in which the one argument of a tool of free text is written."""
        rules, mark = self._rules, self._shape.mark

        def around(before: str, text: str, after: str) -> str:
            return f"{rules.literal(before)} {rules.lark(text)} {rules.literal(after)}"

        def spelled(before: str, after: str) -> str:
            try:
                return around(before, spelled_lark(grammar), after)
            except SpellingError as error:
                raise invalid("tools", str(error)) from None

        return {
            ARGUMENTS: lambda: spelled('{"input": "', '"}'),
            PARAMETERS: lambda: spelled('input="', '"'),
            TAGS: lambda: rules.rule(around(*self._tags_around("input", grammar))),
            MARKED: lambda: around(f"{{input:{mark}", grammar, f"{mark}}}"),
        }

    def _tags_around(self, name: str, text: str) -> tuple[str, str, str]:
        """Return a text parameter in tags: what is before the text, it, and what is after."""
        (tagged,) = (each for each in self._format.syntaxes if isinstance(each, TaggedCall))
        line = "\n" if tagged.lines else ""
        value = f"\n{tagged.value}" if tagged.value else ""
        before = f"{tagged.key}{name}{tagged.key_ends[0]}{value}{line}"
        return before, text, f"{line}{tagged.value_end}\n"

    def _marked(self, schema: Mapping[str, Any], tool: Tool) -> str:
        rules, mark = self._rules, self._shape.mark
        return MarkedValues(rules, mark, schema, tool.field, tool.strict).value(schema)

    def _parameters(self, schema: Mapping[str, Any], tool: Tool) -> str:
        """Return Python's arguments, in the schema's order, with commas between."""
        rules = self._rules
        pairs = [
            (quoted(name + "="), rules.json(sub, tool.field, tool.strict), required)
            for name, sub, required in _members(schema)
        ]
        return rules.listed(pairs, quoted(", "))

    def _tags(self, schema: Mapping[str, Any], tool: Tool) -> str:
        """Return pairs of key and value, in the schema's order; texts are free but for choices."""
        (tagged,) = (each for each in self._format.syntaxes if isinstance(each, TaggedCall))
        types = parameter_types(schema)
        for name, sub, _ in _members(schema) if tool.strict else ():
            limits = text_limits(sub, sub)
            if limits and types[name] == {"string"} and not text_choices(sub, sub):
                said = ", ".join(f'"{each}"' for each in sorted(limits))
                problem = f"has limits of texts that calls of this model cannot keep: {said}"
                raise invalid(tool.field, problem)
        pairs = [
            self._pair(tagged, self._rules.literal(name), sub, types.get(name, ALL), tool)
            + ("" if required else "?")
            for name, sub, required in _members(schema)
        ]
        if not pairs and schema.get("additionalProperties") is not False:
            pairs = [self._pair(tagged, KEY, {}, ALL, tool) + "*"]
        return " ".join(pairs) or '""'

    def _pair(
        self,
        tagged: TaggedCall,
        key: str,
        schema: Mapping[str, Any],
        types: frozenset[str],
        tool: Tool,
    ) -> str:
        rules = self._rules
        choices = text_choices(schema, schema) if types == {"string"} else None
        text = types == {"string"} and not choices
        line = "\n" if tagged.lines else ""
        first, *others = tagged.key_ends  # of a text, and of all else
        ends = [first] if types == {"string"} or not others else others[:1]
        ends = [first, *others[:1]] if types == ALL else ends
        begun = (f"\n{tagged.value}" if tagged.value else "") + line
        opening = " | ".join(rules.literal(end + begun) for end in ends)
        close = f"{line}{tagged.value_end}"
        if text or types == ALL:
            value = rules.until(tagged.value_end) + ' "\\n"'
        elif choices:
            texts = " | ".join(map(quoted, choices))
            value = f"({texts}) {rules.literal(close + chr(10))}"
        else:
            value = rules.json(schema, tool.field, tool.strict)
            value += f" {rules.literal(close + chr(10))}"
        return rules.rule(f"{rules.literal(tagged.key)} {key} ({opening}) {value}")


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
