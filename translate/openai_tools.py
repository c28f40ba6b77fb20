"""Tools in OpenAI's chat completions: what may be called, what must, and what was called."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from .chat import Tool, ToolCall, ToolChoice
from .decode import invalid, missing, shown, unsupported
from .openai_shape import TextRequest
from .tool_fields import checked_arguments, checked_choice, checked_tool


class Function(Struct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class InputTool(Struct):
    type: str = "function"
    function: Function | None = None


class ChosenFunction(Struct):
    name: str


class ChosenTool(Struct):
    type: str
    function: ChosenFunction | None = None


class AllowedTools(Struct):
    mode: str
    tools: list[ChosenTool]


class InputToolChoice(Struct):
    type: str
    function: ChosenFunction | None = None
    allowed_tools: AllowedTools | None = None


class CalledFunction(Struct):
    name: str
    arguments: str | dict[str, Any] | None = None


class InputCall(Struct):
    id: str
    function: CalledFunction
    type: str | None = "function"


class ToolRequest(TextRequest, kw_only=True):
    """A request that may have tools; the last two fields are what they were at first."""

    tools: list[InputTool] | None = None
    tool_choice: str | InputToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Function] | None = None
    function_call: str | ChosenFunction | None = None


MODES = {"none": ToolChoice("none"), "auto": ToolChoice(), "required": ToolChoice("required")}


def tools_of(request: ToolRequest) -> tuple[tuple[Tool, ...], ToolChoice]:
    """Return the tools of a request, and the rule for calling them."""
    if request.functions:
        if request.tools:
            raise invalid("functions", "cannot be sent beside tools")
        functions = enumerate(request.functions)
        tools = tuple(_tool(each, f"functions[{i}]") for i, each in functions)
        choice = _choice(request.function_call, "function_call", False)
        return tools, checked_choice(tools, choice, "function_call")
    inputs = enumerate(request.tools or ())
    tools = tuple(
        _tool(_function(each, f"tools[{i}]"), f"tools[{i}].function") for i, each in inputs
    )
    choice = _choice(request.tool_choice, "tool_choice", request.parallel_tool_calls is not False)
    return tools, checked_choice(tools, choice, "tool_choice")


def calls_of(calls: Sequence[InputCall], place: str) -> tuple[ToolCall, ...]:
    """Return what an assistant called earlier."""
    return tuple(_call(call, f"{place}[{i}]") for i, call in enumerate(calls))


def function_call(call: CalledFunction) -> ToolCall:
    """Return an earlier call of a function, which has no id."""
    return ToolCall("", call.name, checked_arguments(call.arguments))


def _call(call: InputCall, place: str) -> ToolCall:
    if call.type not in ("function", None):
        raise unsupported(f"{place}.type", "custom tools")
    function = call.function
    return ToolCall(call.id, function.name, checked_arguments(function.arguments))


def _function(tool: InputTool, place: str) -> Function:
    if tool.type != "function":
        raise unsupported(f"{place}.type", "tools other than functions")
    if tool.function is None:
        raise missing(f"{place}.function")
    return tool.function


def _tool(function: Function, place: str) -> Tool:
    about = function.name, function.description, function.parameters, function.strict
    return checked_tool(*about, place)


def _choice(
    choice: str | InputToolChoice | ChosenFunction | None, place: str, parallel: bool
) -> ToolChoice:
    if choice is None or isinstance(choice, str):
        rule = MODES.get(choice or "auto")
        if rule is None:
            allowed = ", ".join(MODES)
            raise invalid(place, f"must be one of {allowed} or an object, not {shown(str(choice))}")
        return ToolChoice(rule.mode, (), parallel)
    if isinstance(choice, ChosenFunction):
        return ToolChoice("required", (choice.name,), parallel)
    if choice.type == "allowed_tools" and choice.allowed_tools is not None:
        allowed_tools = choice.allowed_tools
        if allowed_tools.mode not in ("auto", "required"):
            raise invalid(f"{place}.allowed_tools.mode", "must be auto or required")
        names = tuple(each.function.name for each in allowed_tools.tools if each.function)
        if not names or len(names) < len(allowed_tools.tools):
            raise invalid(f"{place}.allowed_tools.tools", "must be functions, at least one")
        return ToolChoice(MODES[allowed_tools.mode].mode, names, parallel)
    if choice.type == "function" and choice.function is not None:  # one call, as at OpenAI's
        return ToolChoice("required", (choice.function.name,), False)
    raise invalid(place, "must be a mode, a function or allowed_tools")
