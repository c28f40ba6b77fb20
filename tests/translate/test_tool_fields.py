"""What of tools is refused, whatever the dialect."""

import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.chat import Chat, Tool, ToolCall, ToolChoice
from bessemer.translate.tool_fields import checked_arguments, checked_choice, checked_tool

F, G = Tool("f"), Tool("g")


class CountedName(str):
    """A name that counts how often it is compared."""

    __slots__ = ()
    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        CountedName.compared += 1
        return str.__eq__(self, other)


def test_many_tools_are_not_each_compared_with_all() -> None:
    CountedName.compared = 0
    tools = tuple(Tool(CountedName(at)) for at in range(500))
    chosen = ToolChoice("auto", tuple(tool.name for tool in tools[1:]))
    assert checked_choice(tools, chosen, "c") == chosen
    assert len(Chat("m", (), tools=tools, tool_choice=chosen).offered) == 499
    assert CountedName.compared < 5_000


def test_names() -> None:
    for name in ("f", "a-b_c.d:e/f", "x" * 128, "é"):
        assert checked_tool(name, None, None, None, "t") == Tool(name)
    for name in ("", " f", "a>", 'a"', "a{", "a\n", "x" * 129):
        with pytest.raises(Refusal) as caught:
            checked_tool(name, None, None, None, "t")
        assert caught.value.field == "t.name"


def test_parameters_have_names() -> None:
    for kind in ("object", ["object", "null"], "OBJECT"):
        assert checked_tool("f", None, {"type": kind}, True, "t").field == "t.parameters"
    for kind in ("string", "array", ["string", "null"]):
        with pytest.raises(Refusal) as caught:
            checked_tool("f", None, {"type": kind}, None, "t", "input_schema")
        assert caught.value.field == "t.input_schema.type"


def test_choices() -> None:
    assert checked_choice((F, G), ToolChoice("none"), "c") == ToolChoice("none")
    assert checked_choice((), ToolChoice("none"), "c") == ToolChoice()
    choices = ToolChoice(parallel=False), ToolChoice("required"), ToolChoice("required", ("f",))
    for choice in (*choices, ToolChoice("auto", ("f",))):
        assert checked_choice((F,), choice, "c") == choice
    for tools, choice, code in (
        ((), ToolChoice("required"), "invalid_value"),
        ((F, F), ToolChoice(), "invalid_value"),
        ((F,), ToolChoice("auto", ("g",)), "invalid_value"),
        ((F,), ToolChoice("required", ("g",)), "invalid_value"),
    ):
        with pytest.raises(Refusal) as caught:
            checked_choice(tools, choice, "c")
        assert caught.value.code == code


def test_arguments() -> None:
    assert checked_arguments('{"a": 1}') == checked_arguments({"a": 1}).replace(":", ": ")
    assert checked_arguments("") == checked_arguments(None) == "{}"
    for text in ("[]", "{", "null", "a", '{"a": "', '"text"'):  # as a model wrote them
        assert checked_arguments(text) == text
        assert ToolCall("", "f", text).values == {"INVALID_JSON": text}
    assert ToolCall("", "f", '{"a": 1}').values == {"a": 1}
    with pytest.raises(Refusal):
        checked_arguments("[" * 20000)
