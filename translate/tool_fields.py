"""Tools as requests describe them, in the form that all dialects share, checked for sense."""

import re
from collections.abc import Sequence
from typing import Any

from msgspec import json

from .chat import Tool, ToolChoice
from .decode import bound_values, invalid, shown, weigh

OTHER_TYPES = frozenset({"array", "boolean", "integer", "null", "number", "string"})
NAME = re.compile(r"[\w.:/-]{1,128}")


def checked_tool(
    name: str,
    description: str | None,
    parameters: dict[str, Any] | None,
    strict: bool | None,
    place: str,
    field: str = "parameters",
) -> Tool:
    """Return a tool. Raises Refusal for a name that no format can write, or no named parameters."""
    if NAME.fullmatch(name) is None:
        raise invalid(f"{place}.name", "must be 1 to 128 letters, digits, or any of _ . : / -")
    bound_values(f"{place}.{field}", parameters)
    kind = (parameters or {}).get("type")
    if OTHER_TYPES.issuperset(kind if isinstance(kind, list) and kind else [str(kind)]):
        raise invalid(f"{place}.{field}.type", f"must be object, not {shown(str(kind))}")
    return Tool(name, description, parameters, bool(strict), field=f"{place}.{field}")


def checked_choice(tools: Sequence[Tool], choice: ToolChoice, place: str) -> ToolChoice:
    """Return a choice among the tools; without tools there is none."""
    names: set[str] = set()
    for tool in tools:
        if tool.name in names:
            raise invalid("tools", f"must not have two tools named {shown(tool.name)}")
        names.add(tool.name)
    for name in choice.names:
        if name not in names:
            raise invalid(place, f"names {shown(name)}, which is none of the tools")
    if choice.mode == "required" and not tools:
        raise invalid(place, "cannot ask for a call without tools")
    return choice if tools else ToolChoice()


def checked_arguments(arguments: str | dict[str, Any] | None) -> str:
    """Return the arguments of an earlier call; a model that called without any gave none.

    A text that is no JSON is what a model wrote, and its client sends again.
    """
    if isinstance(arguments, dict):
        return json.encode(arguments).decode()
    text = arguments or "{}"
    weigh(text.encode())
    return text
