"""Tools in OpenAI's requests."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

from bessemer.engine.request import Refusal
from bessemer.translate.chat import (
    Answer,
    AnswerChoice,
    ArgumentsDelta,
    Chat,
    Event,
    Finish,
    Message,
    Tool,
    ToolCall,
    ToolCallBegun,
    ToolChoice,
    Usage,
)
from bessemer.translate.openai_chat import decode_request, encode_response
from bessemer.translate.parts import said
from tests.translate.test_openai_chat import WHO, chunks, sent

USER = {"role": "user", "content": "Hi"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
F = {"type": "function", "function": {"name": "f"}}
G = {"type": "function", "function": {"name": "g"}}


def decoded(**fields: Any) -> Chat:
    return decode_request(json.dumps({"model": "m", "messages": [USER], **fields}).encode())


def refused(**fields: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decoded(**fields)
    assert caught.value.status == 400
    return caught.value


def test_tools_calls_and_results_of_the_sdks_types() -> None:
    params: CompletionCreateParamsStreaming = {
        "model": "m",
        "stream": True,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": "Does.",
                    "parameters": SCHEMA,
                    "strict": False,
                },
            },
            {"type": "function", "function": {"name": "g"}},
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "messages": [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"a": 1}'},
                    },
                    {
                        "id": "call_2",
                        "type": "function",
                        "function": {"name": "g", "arguments": ""},
                    },
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "4"},
            {
                "role": "tool",
                "tool_call_id": "call_2",
                "content": [{"type": "text", "text": "5"}],
            },
        ],
    }
    chat = decode_request(json.dumps(params).encode())
    assert chat.tools == chat.offered == (Tool("f", "Does.", SCHEMA), Tool("g"))
    assert chat.tool_choice == ToolChoice("auto", (), parallel=False)
    assert chat.call_prefix == "call_"
    calls = (ToolCall("call_1", "f", '{"a": 1}'), ToolCall("call_2", "g", "{}"))
    assert chat.messages == (
        Message("user", said("Hi")),
        Message("assistant", calls=calls),
        Message("tool", said("4"), result_of="call_1"),
        Message("tool", said("5"), result_of="call_2", in_parts=True),
    )


def test_functions_are_tools_whose_calls_have_no_ids() -> None:
    chat = decoded(
        functions=[{"name": "f", "parameters": SCHEMA}],
        function_call="auto",
        messages=[
            USER,
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "4"},
        ],
    )
    assert chat.tools == (Tool("f", None, SCHEMA),) and chat.call_prefix == ""
    assert chat.tool_choice == ToolChoice("auto", (), parallel=False)
    assert chat.messages[1:] == (
        Message("assistant", calls=(ToolCall("", "f", "{}"),)),
        Message("tool", said("4"), name="f", result_of=""),
    )


def test_no_tools_may_be_called_where_the_choice_is_none() -> None:
    chat = decoded(tools=[F, G], tool_choice="none")
    assert len(chat.tools) == 2 and chat.offered == ()
    assert decoded(tools=[F]).offered == (Tool("f"),)
    assert decoded(tools=[F], tool_choice="auto") == decoded(tools=[F])
    assert decoded(tool_choice="none") == decoded()  # of no tools


ALLOWED = {"mode": "auto", "tools": [F]}


ONE = ToolChoice("required", ("f",))


@pytest.mark.parametrize(
    ("choice", "meant"),
    [
        ("required", ToolChoice("required")),
        (F, ToolChoice("required", ("f",), parallel=False)),
        ({"type": "allowed_tools", "allowed_tools": ALLOWED}, ToolChoice("auto", ("f",))),
        ({"type": "allowed_tools", "allowed_tools": {**ALLOWED, "mode": "required"}}, ONE),
    ],
)
def test_choices(choice: Any, meant: ToolChoice) -> None:
    chat = decoded(tools=[F, G], tool_choice=choice)
    assert chat.tool_choice == meant
    assert chat.offered == ((Tool("f"),) if meant.names else (Tool("f"), Tool("g")))


def test_strict_tools_and_a_function_by_name() -> None:
    strict = {"type": "function", "function": {"name": "f", "strict": True}}
    assert decoded(tools=[strict]).tools == (Tool("f", strict=True),)
    chat = decoded(functions=[{"name": "f"}], function_call={"name": "f"})
    assert chat.tool_choice == ToolChoice("required", ("f",), parallel=False)


def test_custom_tools_are_refused_by_name() -> None:
    refusal = refused(tools=[{"type": "custom", "custom": {"name": "f"}}])
    assert (refusal.code, refusal.field) == ("unsupported", "tools[0].type")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": 'a"'}}]}, "tools[0].function.name"),
        ({"tools": [F, F]}, "tools"),
        ({"tools": [F], "functions": [{"name": "f"}]}, "functions"),
        ({"tools": [F], "tool_choice": "always"}, "tool_choice"),
        ({"tools": [F], "tool_choice": G}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [F], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        (
            {
                "tools": [F],
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "x", "tools": []},
                },
            },
            "tool_choice.allowed_tools.mode",
        ),
        *(
            (
                {"tools": [F], "tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}},
                "tool_choice.allowed_tools.tools",
            )
            for allowed in (
                {"mode": "auto", "tools": []},
                {"mode": "required", "tools": [F, {"type": "function", "name": "f"}]},
            )
        ),
        (
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "f", "parameters": {"a": [[]] * 10001}},
                    }
                ]
            },
            "tools[0].function.parameters",
        ),
    ],
)
def test_flawed_tools(fields: Any, field: str) -> None:
    assert refused(**fields).field == field


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": "tool", "content": "4"}, "tool_call_id"),
        ({"role": "assistant", "tool_calls": [{"id": "c"}]}, "tool_calls[0].function"),
    ],
)
def test_flawed_calls_and_results(message: Any, field: str) -> None:
    refusal = refused(messages=[message])
    assert refusal.field and refusal.field.replace("[...]", "[0]") == f"messages[0].{field}"


def test_calls_of_functions_have_no_ids() -> None:
    events: list[Event] = [
        ToolCallBegun(0, 0, "", "f"),
        ArgumentsDelta(0, 0, '{"a":1}'),
        Finish(0, "tool_calls"),
    ]
    read = chunks(sent(events))
    assert [c.choices[0].delta.model_dump(exclude_unset=True) for c in read] == [
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": '{"a":1}'}},
        {},
    ]
    assert read[2].choices[0].finish_reason == "function_call"
    calls = (ToolCall("", "f", '{"a":1}'),)
    answer = Answer((AnswerChoice("", "", "tool_calls", calls=calls),), Usage(1, 2))
    completion = ChatCompletion.model_validate_json(encode_response(answer, WHO), strict=True)
    (choice,) = completion.choices
    assert choice.finish_reason == "function_call" and choice.message.content is None
    assert choice.message.function_call and choice.message.function_call.arguments == '{"a":1}'


def test_text_beside_calls_is_content_and_no_text_is_null() -> None:
    for text in ("", "I look."):
        calls = (ToolCall("call_1", "f", "{}"),)
        answer = Answer((AnswerChoice(text, "", "tool_calls", calls=calls),), Usage(1, 2))
        completion = ChatCompletion.model_validate_json(encode_response(answer, WHO), strict=True)
        assert completion.choices[0].message.content == (text or None)


def test_calls_and_results_in_the_shapes_that_clients_send() -> None:
    calls = [
        {"id": "a", "type": None, "function": {"name": "f", "arguments": {"x": [1, "é"]}}},
        {"id": "b", "index": 1, "function": {"name": "f", "arguments": None}},
    ]
    about = {"role": "assistant", "content": [], "tool_calls": calls}
    results = [{"role": "tool", "tool_call_id": "a", "content": None}]
    _, turn, result = decoded(messages=[USER, about, *results]).messages
    assert [call.arguments for call in turn.calls] == ['{"x":[1,"é"]}', "{}"]
    assert (turn.text, result.text, result.result_of) == ("", "", "a")


def test_arguments_as_deep_as_no_template_can_follow_are_refused() -> None:
    deep = '{"a":' * 5000 + "1" + "}" * 5000
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": deep}}
    assert "levels deep" in refused(messages=[{"role": "assistant", "tool_calls": [call]}]).message
