"""What of tools is refused, whatever the dialect."""

import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.chat import Tool, ToolChoice
from bessemer.translate.tool_fields import checked_arguments, checked_choice, checked_tool

F, G = Tool("f"), Tool("g")


def test_names() -> None:
    for name in ("f", "a-b_c.d:e/f", "x" * 128, "é"):
        assert checked_tool(name, None, None, None, "t") == Tool(name)
    for name in ("", " f", "a>", 'a"', "a{", "a\n", "x" * 129):
        with pytest.raises(Refusal) as caught:
            checked_tool(name, None, None, None, "t")
        assert caught.value.field == "t.name"


def test_parameters_have_names() -> None:
    for kind in ("object", ["object", "null"], "OBJECT"):
        checked_tool("f", None, {"type": kind}, True, "t")
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
    assert checked_arguments('{"a": 1}', "p") == '{"a": 1}'
    assert checked_arguments("", "p") == "{}"
    for text in ("[]", "{", "null", "a"):
        with pytest.raises(Refusal):
            checked_arguments(text, "p")
