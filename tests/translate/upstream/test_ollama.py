"""Ollama's chat, asked and read, by the official package's types."""

import json
from typing import Any

import pytest
from ollama import ChatResponse
from ollama._types import ChatRequest

from bessemer.engine.request import Refusal
from bessemer.translate.chat import (
    AnswerStarted,
    ArgumentsDelta,
    Chat,
    Done,
    Durations,
    Event,
    Finish,
    GenerationOptions,
    Message,
    Reasoning,
    ReasoningDelta,
    ResponseFormat,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallBegun,
    ToolChoice,
    Usage,
)
from bessemer.translate.dialect import ServerEvent
from bessemer.translate.parts import Document, Image, Text, said
from bessemer.translate.upstream.ollama import UPSTREAM
from tests.translate.upstream.answered import answer

Body = dict[str, Any]
ASK = Message("user", said("Hi"))
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
PNG = Image(media_type="image/png", data=b"\x89PN", field="here")


def asked(*messages: Message, lossy: bool = False, **about: Any) -> Body:
    encoded = UPSTREAM.encode_request(Chat("m", messages or (ASK,), **about), lossy)
    body: Body = json.loads(encoded)
    ChatRequest.model_validate(body)
    return body


def refused(*messages: Message, **about: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        asked(*messages, **about)
    assert (caught.value.status, caught.value.code) == (400, "unsupported")
    return caught.value


def test_a_conversation_with_calls() -> None:
    options = GenerationOptions(
        90, temperature=0.5, top_p=0.9, top_k=5, min_p=0.1, seed=7, stop=("a",), stream=True,
        repetition_penalty=1.1, presence_penalty=0.2, frequency_penalty=0.3,
    )  # fmt: skip
    messages = (
        Message("system", said("Be brief.")),
        Message("user", (Text("See"), PNG)),
        Message("assistant", said("Hm."), "Well.", calls=(ToolCall("a", "add", '{"a": 1}'),)),
        Message("tool", said("4"), result_of="a"),
    )
    tools = (Tool("add", "Adds.", SCHEMA),)
    assert asked(*messages, options=options, tools=tools) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "See", "images": ["iVBO"]},
            {
                "role": "assistant",
                "content": "Hm.",
                "thinking": "Well.",
                "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}],
            },
            {"role": "tool", "content": "4", "tool_name": "add"},
        ],
        "stream": True,
        "options": {
            "num_predict": 90,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 5,
            "min_p": 0.1,
            "seed": 7,
            "repeat_penalty": 1.1,
            "presence_penalty": 0.2,
            "frequency_penalty": 0.3,
            "stop": ["a"],
        },
        "tools": [
            {
                "type": "function",
                "function": {"name": "add", "description": "Adds.", "parameters": SCHEMA},
            }
        ],
    }


def test_what_nobody_asked_for_is_not_said() -> None:
    hi = {"role": "user", "content": "Hi"}
    assert asked() == {"model": "m", "messages": [hi], "stream": False}


@pytest.mark.parametrize(
    ("reasoning", "think"),
    [
        (Reasoning(), None),
        (Reasoning(enabled=True), True),
        (Reasoning(enabled=False), False),
        (Reasoning(budget=0), False),
        (Reasoning(effort="none"), False),
        (Reasoning(effort="high"), "high"),
        (Reasoning(effort="xhigh"), "high"),
        (Reasoning(effort="minimal"), "low"),
        (Reasoning(True, None, 500), "medium"),
    ],
)
def test_how_much_a_model_is_to_think(reasoning: Reasoning, think: Any) -> None:
    body = asked(reasoning=reasoning, options=GenerationOptions(1000))
    assert body.get("think") == think and type(body.get("think")) is type(think)


def test_formats_of_answers() -> None:
    schema = ResponseFormat("json_schema", '{"type":"object"}')
    assert asked(response_format=schema)["format"] == {"type": "object"}
    assert asked(response_format=ResponseFormat("json_object", ""))["format"] == "json"
    odd = ResponseFormat("regex", "a+", field="guided_regex")
    assert refused(response_format=odd).field == "guided_regex"
    assert "format" not in asked(response_format=odd, lossy=True)


def test_what_it_cannot_be_told() -> None:
    tools = (Tool("add"), Tool("clock"))
    must = ToolChoice("required")
    assert refused(tools=tools, tool_choice=must).field == "tool_choice"
    assert len(asked(tools=tools, tool_choice=must, lossy=True)["tools"]) == 2
    assert "tools" not in asked(tools=tools, tool_choice=ToolChoice("none"))
    one = asked(tools=tools, tool_choice=ToolChoice("auto", ("add",)))
    assert [each["function"]["name"] for each in one["tools"]] == ["add"]
    link = Image(media_type="", url="https://a", field="here")
    pdf = Document(media_type="application/pdf", data=b"%PDF", field="here")
    for part in (link, pdf):
        assert refused(Message("user", (part,))).field == "here"
        assert asked(Message("user", (Text("a"), part)), lossy=True)["messages"][0] == {
            "role": "user", "content": "a"
        }  # fmt: skip
    assert refused(options=GenerationOptions(n=2)).field == "n"


def test_that_a_call_failed_is_said() -> None:
    turn = Message("tool", said("No."), result_of="a", failed=True)
    (message,) = asked(turn)["messages"]
    assert "No." in message["content"] and message["content"] != "No."


COUNTS = {
    "total_duration": 9, "load_duration": 1, "prompt_eval_duration": 3, "eval_duration": 5,
    "prompt_eval_count": 10, "eval_count": 4,
}  # fmt: skip
DONE = Done(Usage(10, 4), durations=Durations(9, 1, 3, 5))


def line(said: Body, **more: Any) -> Body:
    body = {"model": "m", "created_at": "2026-01-01T00:00:00Z", "done": False, **more}
    body["message"] = {"role": "assistant", "content": "", **said}
    ChatResponse.model_validate(body)
    return body


def read(*bodies: Body) -> list[Event]:
    decoder, events = UPSTREAM.stream(), list[Event]()
    for body in bodies:
        assert not decoder.over
        events += decoder.decode(ServerEvent(json.dumps(body).encode()))
    assert decoder.over
    return events


LAST = line({}, done=True, done_reason="stop", **COUNTS)
CALL = {"function": {"name": "add", "arguments": {"a": 1}}}


def test_a_stream() -> None:
    events = read(line({"thinking": "Hm."}), line({"content": "H"}), line({"content": "i"}), LAST)
    assert events == [
        AnswerStarted(Usage(0, 0)),
        ReasoningDelta(0, "Hm."),
        TextDelta(0, "H"),
        TextDelta(0, "i"),
        Finish(0, "stop"),
        DONE,
    ]


def test_calls_have_ids_of_ours_where_there_are_none() -> None:
    events = read(line({"tool_calls": [CALL]}), line({"tool_calls": [{**CALL, "id": "x"}]}), LAST)
    first, second = answer(events).choices[0].calls
    assert first.id.startswith("call_") and second == ToolCall("x", "add", '{"a": 1}')
    begun = [each for each in events if isinstance(each, ToolCallBegun)]
    assert [each.index for each in begun] == [0, 1] and Finish(0, "tool_calls") in events
    text = {"function": {"name": "add", "arguments": '{"a": 2}'}}
    assert ArgumentsDelta(0, 0, '{"a": 2}') in UPSTREAM.decode_response(
        json.dumps({"message": {"tool_calls": [text]}, "done": True}).encode()
    )


def test_calls_without_arguments_have_an_empty_object() -> None:
    for function in ({"name": "add"}, {"name": "add", "arguments": None}):
        body = {"message": {"tool_calls": [{"function": function}]}, "done": True}
        events = list(UPSTREAM.decode_response(json.dumps(body).encode()))
        assert answer(events).choices[0].calls[0].arguments == "{}"


def test_a_whole_answer() -> None:
    whole = line({"content": "Hi", "thinking": "Hm."}, done=True, done_reason="length", **COUNTS)
    (choice,) = answer(list(UPSTREAM.decode_response(json.dumps(whole).encode()))).choices
    assert (choice.text, choice.reasoning, choice.reason) == ("Hi", "Hm.", "length")


@pytest.mark.parametrize("body", [b"{}", b"[]", b"<html>", b'{"message":{"content":"Hi"}}'])
def test_what_is_no_whole_answer(body: bytes) -> None:
    with pytest.raises(ValueError):
        UPSTREAM.decode_response(body)


def test_errors_in_a_stream_are_refusals() -> None:
    decoder = UPSTREAM.stream()
    assert [*decoder.decode(ServerEvent(json.dumps(line({"content": "H"})).encode()))]
    with pytest.raises(Refusal, match=r"model runner has stopped"):
        list(decoder.decode(ServerEvent(b'{"error":"model runner has stopped"}')))
    assert not decoder.over and not [*decoder.decode(ServerEvent(b"\n"))]
    refusal = UPSTREAM.decode_error(404, b'{"error":"model \'m\' not found"}')
    assert (refusal.status, refusal.message) == (404, "model 'm' not found")
