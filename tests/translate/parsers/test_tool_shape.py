"""Calls written in a shape."""

from bessemer.translate.chat import ToolCall
from bessemer.translate.parsers.tool_shape import HERMES, Shape, listed

CALL = ToolCall("", "f", '{"a": "x", "b": [1, null]}')


def test_calls_in_a_shape() -> None:
    assert listed("<a>", "</a>").call(CALL) == (
        '<a>[{"name": "f", "arguments": {"a": "x", "b": [1, null]}}]</a>'
    )
    assert Shape("NAME:INDEX ARGUMENTS", "<", after=">").call(CALL) == f"<f:0 {CALL.arguments}>"
    assert Shape("NAME(PARAMETERS)").call(CALL) == "f(a='x', b=[1, None])"
    assert Shape("NAME TAGS").call(CALL) == HERMES.call(CALL)
