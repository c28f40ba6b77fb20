"""Tools in Anthropic's requests."""

import json
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsStreaming

from bessemer.translate.anthropic_request import decode_request
from bessemer.translate.chat import Message, Text, Tool, ToolCall, ToolChoice, said
from tests.translate.test_anthropic import USER, decoded, refused


def test_tools_calls_and_results() -> None:
    params: MessageCreateParamsStreaming = {
        "model": "m",
        "max_tokens": 9,
        "stream": True,
        "tools": [
            {"name": "f", "description": "Does.", "input_schema": {"type": "object"}},
            {"type": "web_search_20250305", "name": "web_search"},
        ],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "messages": [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1, "é"]}},
                    {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "4"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_2",
                        "is_error": True,
                        "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                    },
                    {"type": "text", "text": "And now?"},
                ],
            },
        ],
    }
    chat = decode_request(json.dumps(params).encode())
    assert chat.tools == (Tool("f", "Does.", {"type": "object"}),)
    assert chat.tool_choice == ToolChoice("auto", (), parallel=False)
    calls = (ToolCall("toolu_1", "f", '{"a":[1,"é"]}'), ToolCall("toolu_2", "g", "{}"))
    assert chat.messages == (
        Message("user", said("Hi")),
        Message("assistant", said("I look."), calls=calls, in_parts=True),
        Message("tool", said("4"), result_of="toolu_1"),
        Message("tool", (Text("a"), Text("b")), result_of="toolu_2", failed=True, in_parts=True),
        Message("user", said("And now?"), in_parts=True),
    )
    assert not chat.continue_final


def test_choices() -> None:
    tools = [{"name": "f", "strict": True}, {"name": "g"}]
    for choice, meant in (
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("required", (), False)),
        ({"type": "tool", "name": "g"}, ToolChoice("required", ("g",))),
        ({"type": "none"}, ToolChoice("none")),
    ):
        chat = decoded(tools=tools, tool_choice=choice)
        assert chat.tool_choice == meant
    assert chat.tools == (Tool("f", strict=True), Tool("g")) and chat.offered == ()


def test_a_turn_that_called_is_not_gone_on_with() -> None:
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    turn = {"role": "assistant", "content": [{"type": "text", "text": "So"}, call]}
    assert not decoded(USER, turn).continue_final


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tools": [{"name": "f f"}]}, "tools[0].name"),
        ({"tools": [{"name": "f"}, {"name": "f"}]}, "tools"),
        ({"tools": [{"name": "f"}], "tool_choice": {"type": "all"}}, "tool_choice.type"),
        ({"tools": [{"name": "f"}], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        (
            {"tools": [{"name": "f"}], "tool_choice": {"type": "tool", "name": "g"}},
            "tool_choice",
        ),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a"}]}]},
            "messages[0].content[0].name",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]},
            "messages[0].content[0].tool_use_id",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_use"}]}]},
            "messages[0].content[0].type",
        ),
    ],
)
def test_flawed_tools(fields: dict[str, Any], field: str) -> None:
    assert refused(**fields).field == field
