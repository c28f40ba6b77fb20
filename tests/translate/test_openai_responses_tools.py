"""Tools of responses: functions, free text, namespaces, and the rules for calling them."""

from typing import Any

import msgspec
import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.chat import Tool, ToolChoice
from bessemer.translate.openai_responses_tools import (
    FREE_TEXT,
    CallTarget,
    InputTool,
    InputToolChoice,
    tools_of,
)

ADD = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True}
PATCH = {"type": "custom", "name": "patch", "description": "Patches."}
AGENTS = {
    "type": "namespace",
    "name": "agents",
    "description": "x",
    "tools": [{"type": "function", "name": "ask"}, {"type": "custom", "name": "say"}],
}
HOSTED: list[dict[str, Any]] = [
    {"type": "web_search", "external_web_access": True},
    {"type": "mcp", "server_label": "a", "server_url": "b"},
    {"type": "image_generation"},
]
ALL = [ADD, *HOSTED, PATCH, AGENTS]


def read(tools: list[Any], choice: Any = None, parallel: bool = True) -> Any:
    inputs = msgspec.convert(tools, list[InputTool])
    rule = msgspec.convert(choice, str | InputToolChoice | None)
    return tools_of(inputs, rule, parallel)


def test_functions_custom_tools_and_namespaces_can_be_called_and_others_are_left_out() -> None:
    tools, choice, targets = read(ALL)
    assert tools == (
        Tool("add", None, {"type": "object"}, True),
        Tool("patch", "Patches.", FREE_TEXT),
        Tool("agents__ask"),
        Tool("agents__say", None, FREE_TEXT),
    )
    assert targets == {
        "add": CallTarget("function", "add"),
        "patch": CallTarget("custom", "patch"),
        "agents__ask": CallTarget("function", "ask", "agents"),
        "agents__say": CallTarget("custom", "say", "agents"),
    }
    assert choice == ToolChoice()
    assert read(HOSTED)[:2] == ((), ToolChoice())


@pytest.mark.parametrize(
    ("choice", "mode", "names"),
    [
        ("none", "none", ()),
        ("auto", "auto", ()),
        ("required", "required", ()),
        ({"type": "function", "name": "add"}, "required", ("add",)),
        ({"type": "custom", "name": "patch"}, "required", ("patch",)),
        ({"type": "function", "name": "ask"}, "required", ("agents__ask",)),
        ({"type": "function", "name": "agents__ask"}, "required", ("agents__ask",)),
        (
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [
                    {"type": "function", "name": "add"},
                    {"type": "web_search"},
                    {"type": "custom", "name": "patch"},
                ],
            },
            "auto",
            ("add", "patch"),
        ),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "add"}],
            },
            "required",
            ("add",),
        ),
    ],
)
def test_every_form_of_choice(choice: Any, mode: Any, names: tuple[str, ...]) -> None:
    assert read(ALL, choice)[1] == ToolChoice(mode, names)
    assert read(ALL, choice, parallel=False)[1] == ToolChoice(mode, names, False)


@pytest.mark.parametrize(
    ("choice", "field"),
    [
        ("any", "tool_choice"),
        ({"type": "function", "name": "no"}, "tool_choice"),
        ({"type": "function"}, "tool_choice.name"),
        ({"type": "web_search"}, "tool_choice.type"),
        ({"type": "allowed_tools", "mode": "auto", "tools": []}, "tool_choice.tools"),
        ({"type": "allowed_tools", "mode": "x", "tools": []}, "tool_choice.mode"),
    ],
)
def test_a_choice_that_makes_no_sense_is_named(choice: Any, field: str) -> None:
    with pytest.raises(Refusal) as caught:
        read(ALL, choice)
    assert (caught.value.status, caught.value.field) == (400, field)


@pytest.mark.parametrize(
    ("tool", "field"),
    [
        ({"type": "function"}, "tools[0].name"),
        ({"type": "custom"}, "tools[0].name"),
        ({"type": "namespace", "tools": []}, "tools[0].name"),
        ({"type": "function", "name": "a b"}, "tools[0].name"),
        (
            {"type": "namespace", "name": "n", "tools": [{"type": "function"}]},
            "tools[0].tools[0].name",
        ),
        ({"type": "custom", "name": "c", "format": {"type": "x"}}, "tools[0].format.type"),
        (
            {
                "type": "custom",
                "name": "c",
                "format": {"type": "grammar", "syntax": "peg", "definition": "x"},
            },
            "tools[0].format.syntax",
        ),
        (
            {"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "lark"}},
            "tools[0].format.definition",
        ),
    ],
)
def test_a_tool_that_makes_no_sense_is_named(tool: Any, field: str) -> None:
    with pytest.raises(Refusal) as caught:
        read([tool])
    assert (caught.value.status, caught.value.field) == (400, field)


def test_the_grammar_of_a_custom_tool() -> None:
    def held(syntax: str) -> Tool:
        format = {"type": "grammar", "syntax": syntax, "definition": "start: x"}
        (tool,) = read([PATCH | {"format": format}])[0]
        assert isinstance(tool, Tool) and tool.strict
        assert (tool.description or "").startswith("Patches.\n\nThe input keeps to this ")
        assert "start: x" in (tool.description or "")
        return tool

    assert (held("lark").grammar, held("lark").parameters) == ("start: x", FREE_TEXT)
    regex = held("regex")
    assert regex.grammar is None and regex.parameters is not None
    text = {"type": "string", "pattern": "^(?:start: x)$"}
    assert regex.parameters["properties"] == {"input": text}
    (plain,) = read([PATCH | {"format": {"type": "text"}}])[0]
    assert plain == Tool("patch", "Patches.", FREE_TEXT)


def test_two_tools_of_one_name_are_refused_but_in_namespaces_of_their_own() -> None:
    with pytest.raises(Refusal):
        read([ADD, ADD])
    other = AGENTS | {"name": "others"}
    assert len(read([AGENTS, other])[0]) == 4
    with pytest.raises(Refusal):  # which of them?
        read([AGENTS, other], {"type": "function", "name": "ask"})
