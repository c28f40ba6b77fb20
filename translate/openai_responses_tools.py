"""Tools in OpenAI's responses: functions, custom tools and namespaces of both."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from msgspec import Struct

from ..engine.request import MAX_DEFINITION
from .chat import Tool, ToolChoice
from .decode import invalid, missing, present, shown, unsupported
from .openai_responses_items import tool_name
from .openai_tools import MODES
from .tool_fields import checked_choice, checked_tool


class InputFormat(Struct):
    type: str
    syntax: str | None = None
    definition: str | None = None


class InputTool(Struct):
    """A tool of any type; those that OpenAI's own servers run are left out."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    format: InputFormat | None = None
    tools: "list[InputTool] | None" = None


class ChosenTool(Struct):
    type: str
    name: str | None = None


class InputToolChoice(Struct):
    type: str
    name: str | None = None
    mode: str | None = None
    tools: list[ChosenTool] | None = None


@dataclass(frozen=True, slots=True)
class CallTarget:
    """A tool as its client knows it."""

    kind: Literal["function", "custom"]
    name: str
    namespace: str | None = None


Targets = Mapping[str, CallTarget]  # by the name that a model calls

SYNTAXES = {"lark": "grammar in Lark", "regex": "regular expression"}
FREE_TEXT: dict[str, Any] = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}


def tools_of(
    tools: Sequence[InputTool], choice: str | InputToolChoice | None, parallel: bool
) -> tuple[tuple[Tool, ...], ToolChoice, Targets]:
    """Return the tools that can be called, the rule for calling them, and what they stand for."""
    each = [*_each(tools, "tools")]
    callable_tools = tuple(tool for tool, _ in each)
    targets = {tool.name: target for tool, target in each}
    rule = checked_choice(callable_tools, _choice(choice, targets, parallel), "tool_choice")
    return callable_tools, rule, targets


def _each(
    tools: Sequence[InputTool], place: str, namespace: str | None = None
) -> Iterator[tuple[Tool, CallTarget]]:
    for at, tool in enumerate(tools):
        where = f"{place}[{at}]"
        if tool.type == "namespace" and namespace is None:
            yield from _each(tool.tools or (), f"{where}.tools", _name(tool, where))
        elif tool.type == "function":
            name = _name(tool, where)
            about = tool.description, tool.parameters, tool.strict
            checked = checked_tool(tool_name(name, namespace), *about, where)
            yield checked, CallTarget("function", name, namespace)
        elif tool.type == "custom":
            yield (
                _custom(tool, where, namespace),
                CallTarget("custom", _name(tool, where), namespace),
            )


def _custom(tool: InputTool, place: str, namespace: str | None) -> Tool:
    """Return a tool of free text as a function of one text, which models know how to call."""
    name = tool_name(_name(tool, place), namespace)
    about, format = tool.description or "", tool.format
    if format is None or format.type == "text":
        return checked_tool(name, about or None, FREE_TEXT, False, place)
    if format.type != "grammar":
        problem = f"must be text or grammar, not {shown(format.type)}"
        raise invalid(f"{place}.format.type", problem)
    if format.syntax not in SYNTAXES:
        problem = f"must be lark or regex, not {shown(str(format.syntax))}"
        raise invalid(f"{place}.format.syntax", problem)
    if format.definition is None:
        raise missing(f"{place}.format.definition")
    return _held(name, about, format.syntax, format.definition, f"{place}.format.definition")


def _held(name: str, about: str, syntax: str, definition: str, place: str) -> Tool:
    """Return a tool whose text keeps to a grammar, of which its model is told."""
    if len(definition) > MAX_DEFINITION:
        raise invalid(place, f"must have at most {MAX_DEFINITION} characters")
    described = f"{about}\n\nThe input keeps to this {SYNTAXES[syntax]}:\n{definition}".lstrip()
    if syntax == "lark":
        return Tool(name, described, FREE_TEXT, True, definition)
    text = {"type": "string", "pattern": f"^(?:{definition})$"}
    return Tool(name, described, {**FREE_TEXT, "properties": {"input": text}}, True)


def _name(tool: InputTool, place: str) -> str:
    return present(tool.name, f"{place}.name")


def _choice(choice: str | InputToolChoice | None, targets: Targets, parallel: bool) -> ToolChoice:
    if choice is None or isinstance(choice, str):
        rule = MODES.get(choice or "auto")
        if rule is None:
            problem = f"must be one of {', '.join(MODES)} or an object, not {shown(str(choice))}"
            raise invalid("tool_choice", problem)
        return ToolChoice(rule.mode, (), parallel)
    if choice.type == "allowed_tools":
        return _allowed(choice, targets, parallel)
    if choice.type not in ("function", "custom"):
        raise unsupported("tool_choice.type", f"tools of type {shown(choice.type)}")
    return ToolChoice("required", (_chosen(choice.name, "tool_choice", targets),), parallel)


def _allowed(choice: InputToolChoice, targets: Targets, parallel: bool) -> ToolChoice:
    """Return the choice among some tools; those that are left out cannot be called anyway."""
    if choice.mode not in ("auto", "required"):
        raise invalid("tool_choice.mode", "must be auto or required")
    names = tuple(
        _chosen(tool.name, f"tool_choice.tools[{at}]", targets)
        for at, tool in enumerate(choice.tools or ())
        if tool.type in ("function", "custom")
    )
    if not names:
        raise invalid("tool_choice.tools", "must have a function or a custom tool at least")
    return ToolChoice(MODES[choice.mode].mode, names, parallel)


def _chosen(name: str | None, place: str, targets: Targets) -> str:
    """Return the name that a model calls; a tool in a namespace goes by its own name, too."""
    if name is None:
        raise missing(f"{place}.name")
    own = [called for called, target in targets.items() if target.name == name]
    return own[0] if name not in targets and len(own) == 1 else name
