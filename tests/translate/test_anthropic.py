"""Anthropic's messages: answers and streams as the SDK reads them."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from anthropic.types import Message as AnthropicMessage
from anthropic.types import MessageCountTokensParams, MessageTokensCount, RawMessageStreamEvent
from pydantic import TypeAdapter

from bessemer.engine.request import Refusal
from bessemer.kernels.attention import pages
from bessemer.translate.anthropic import PAGE, Stream, encode_count, encode_response
from bessemer.translate.anthropic_request import decode_count
from bessemer.translate.chat import (
    Answer,
    AnswerChoice,
    AnswerStarted,
    ArgumentsDelta,
    Done,
    Event,
    Failure,
    Finish,
    GenerationOptions,
    Heartbeat,
    Identity,
    Message,
    Reasoning,
    ReasoningDelta,
    TextDelta,
    ThoughtSealed,
    Tool,
    ToolCall,
    ToolCallBegun,
    Usage,
)
from bessemer.translate.dialect import COMMENT
from bessemer.translate.parts import said
from bessemer.translate.signature import Signer
from tests.translate.test_anthropic_request import USER, decoded

WHO = Identity("msg_1", 1_700_000_000, "tiny")
EVENTS: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def test_counting() -> None:
    params: MessageCountTokensParams = {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "system": "Be brief.",
        "thinking": {"type": "disabled"},
    }
    chat = decode_count(json.dumps(params).encode())
    assert chat.messages == (Message("system", said("Be brief.")), Message("user", said("Hi")))
    assert chat.reasoning == Reasoning(False) and not chat.tools
    assert MessageTokensCount.model_validate_json(encode_count(7)).input_tokens == 7
    counted = decode_count(json.dumps({**params, "tools": [{"name": "f"}]}).encode())
    assert counted.tools == (Tool("f"),)


@pytest.mark.parametrize(
    ("reason", "stop", "stop_reason"),
    [
        ("stop", None, "end_turn"),
        ("stop", "END", "stop_sequence"),
        ("length", None, "max_tokens"),
    ],
)
def test_a_response_as_the_sdk_reads_it(reason: str, stop: str | None, stop_reason: str) -> None:
    choice = AnswerChoice("Hello", "Hm.", reason, stop)
    body = encode_response(Answer((choice,), Usage(10, 4, 8)), WHO)
    read = AnthropicMessage.model_validate_json(body, strict=True)
    assert (read.id, read.type, read.role, read.model) == ("msg_1", "message", "assistant", "tiny")
    assert (read.stop_reason, read.stop_sequence) == (stop_reason, stop)
    assert [block.type for block in read.content] == ["thinking", "text"]
    assert msgspec.json.decode(body)["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": Signer("Hm.").signature},
        {"type": "text", "text": "Hello"},
    ]
    assert read.usage.model_dump(exclude_none=True) == {
        "input_tokens": 2,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 8,
        "output_tokens": 4,
    }


def test_an_empty_response_has_a_text_block() -> None:
    body = encode_response(Answer((AnswerChoice("", "", "stop"),), Usage(1, 1)), WHO)
    assert msgspec.json.decode(body)["content"] == [{"type": "text", "text": ""}]


def sent(
    events: Iterable[Event],
    options: GenerationOptions = GenerationOptions(),  # noqa: B008
) -> list[dict[str, Any]]:
    """Return what is sent, each event read by the SDK and named as its type."""
    stream = Stream(WHO, options)
    out = [e for event in events for e in stream.encode(event)]
    bodies: list[dict[str, Any]] = [msgspec.json.decode(e.data) for e in out]
    assert [e.name for e in out] == [body["type"] for body in bodies]
    for event in out:
        assert b"\n" not in event.data
        if event.name not in ("ping", "error"):
            EVENTS.validate_json(event.data, strict=True)
    return bodies


def legal(bodies: list[dict[str, Any]]) -> None:
    """Check that blocks come in turn, with indexes 0, 1, ..., and deltas fit the open one."""
    pieces = {
        "text": {"text_delta"},
        "thinking": {"thinking_delta", "signature_delta"},
        "tool_use": {"input_json_delta"},
    }
    started, index, kind = 0, -1, None
    for body in bodies:
        if body["type"] == "content_block_start":
            assert kind is None
            assert body["index"] == index + 1
            index, kind = index + 1, body["content_block"]["type"]
        elif body["type"] == "content_block_delta":
            assert (body["index"], kind is not None) == (index, True)
            assert body["delta"]["type"] in pieces[str(kind)]
        elif body["type"] == "content_block_stop":
            assert (body["index"], kind is not None) == (index, True)
            kind = None
        started += body["type"] == "message_start"
    assert (started, kind) == (1, None)
    assert bodies[-1]["type"] == "message_stop"


def test_a_stream_with_thinking() -> None:
    """H5.14: the thought is a block of its own before the text."""
    bodies = sent(
        [
            AnswerStarted(Usage(10, 0, 8)),
            ReasoningDelta(0, "H"),
            ReasoningDelta(0, "m."),
            Heartbeat(),
            TextDelta(0, "Hel"),
            TextDelta(0, 'lo"'),
            Finish(0, "stop", "END"),
            Done(Usage(10, 4, 8, 2)),
        ]
    )
    legal(bodies)
    usage = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 8, "input_tokens": 2}
    assert bodies == [
        {
            "type": "message_start",
            "message": {
                "type": "message",
                "id": "msg_1",
                "model": "tiny",
                "role": "assistant",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": usage | {"output_tokens": 0},
            },
        },
        {"type": "ping"},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        _delta(0, type="thinking_delta", thinking="H"),
        _delta(0, type="thinking_delta", thinking="m."),
        {"type": "ping"},
        _delta(0, type="signature_delta", signature=Signer("Hm.").signature),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "text", "text": ""},
        },
        _delta(1, type="text_delta", text="Hel"),
        _delta(1, type="text_delta", text='lo"'),
        {"type": "content_block_stop", "index": 1},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "stop_sequence", "stop_sequence": "END"},
            "usage": usage | {"output_tokens": 4, "output_tokens_details": {"thinking_tokens": 2}},
        },
        {"type": "message_stop"},
    ]


def test_each_thought_of_a_stream_has_a_signature_of_its_own() -> None:
    events = [
        AnswerStarted(Usage(10, 0)),
        ReasoningDelta(0, "Hm."),
        TextDelta(0, "So."),
        ReasoningDelta(0, "W"),
        ReasoningDelta(0, "ell"),
        ToolCallBegun(0, 0, "a", "f"),
        ReasoningDelta(0, "On"),
        Finish(0, "length"),
        Done(Usage(10, 4)),
    ]
    bodies = sent(events)
    legal(bodies)
    signed = [b["delta"]["signature"] for b in bodies if b.get("delta", {}).get("signature")]
    assert signed == [Signer(thought).signature for thought in ("Hm.", "Well", "On")]


def test_a_thought_that_is_not_shown_is_sealed_in_its_signature() -> None:
    bodies = sent(
        [
            AnswerStarted(Usage(10, 0)),
            ThoughtSealed(0, "Hm."),
            TextDelta(0, "So."),
            Finish(0, "stop"),
            Done(Usage(10, 4)),
        ]
    )
    legal(bodies)
    blocks = [b["content_block"] for b in bodies if b["type"] == "content_block_start"]
    assert [block["type"] for block in blocks] == ["thinking", "text"]
    assert not any(b.get("delta", {}).get("type") == "thinking_delta" for b in bodies)
    (signature,) = (b["delta"]["signature"] for b in bodies if b.get("delta", {}).get("signature"))
    choice = AnswerChoice("So.", "", "stop", sealed="Hm.")
    body = encode_response(Answer((choice,), Usage(10, 4)), WHO)
    read = AnthropicMessage.model_validate_json(body, strict=True)
    block = read.content[0].model_dump()
    assert block == {"type": "thinking", "thinking": "", "signature": signature}
    back = decoded(USER, {"role": "assistant", "content": [block]})
    assert back.messages[-1].reasoning == "Hm."


def test_a_stream_with_calls() -> None:
    bodies = sent(
        [
            AnswerStarted(Usage(1, 0)),
            TextDelta(0, "Let me see."),
            ToolCallBegun(0, 0, "toolu_1", "f"),
            ArgumentsDelta(0, 0, '{"a"'),
            ArgumentsDelta(0, 0, ":1}"),
            ToolCallBegun(0, 1, "toolu_2", "g"),
            Finish(0, "tool_calls"),
            Done(Usage(1, 2)),
        ]
    )
    legal(bodies)
    blocks = [b["content_block"] for b in bodies if b["type"] == "content_block_start"]
    assert blocks == [
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
        {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
    ]
    pieces = [b["delta"] for b in bodies if b["type"] == "content_block_delta"]
    assert [p["partial_json"] for p in pieces[1:]] == ['{"a"', ":1}"]
    assert bodies[-2]["delta"]["stop_reason"] == "tool_use"


def test_calls_of_a_whole_answer() -> None:
    calls = (ToolCall("toolu_1", "f", '{"a":1}'), ToolCall("toolu_2", "g", ""))
    for text, before in (("", []), ("Hm", [{"type": "text", "text": "Hm"}])):
        answer = Answer((AnswerChoice(text, "", "tool_calls", calls=calls),), Usage(1, 2))
        body = encode_response(answer, WHO)
        assert AnthropicMessage.model_validate_json(body, strict=True).stop_reason == "tool_use"
        assert msgspec.json.decode(body)["content"] == [
            *before,
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
        ]


@pytest.mark.parametrize("deltas", [[], [ReasoningDelta(0, "Hm.")], [TextDelta(0, "Hi")]])
def test_every_stream_has_one_text_block(deltas: list[Event]) -> None:
    last: list[Event] = [Finish(0, "length"), Done(Usage(1, 1))]
    bodies = sent([AnswerStarted(Usage(1, 0)), *deltas, *last])
    legal(bodies)
    blocks = [b["content_block"]["type"] for b in bodies if b["type"] == "content_block_start"]
    assert blocks.count("text") == 1
    assert blocks[-1] == "text"


def test_a_heartbeat_before_the_start_is_a_comment_and_no_ping() -> None:
    assert Stream(WHO, GenerationOptions()).encode(Heartbeat()) == (COMMENT,)


def test_an_answer_of_no_tokens_has_no_content() -> None:
    assert decoded(max_tokens=0).options.max_tokens == 0
    body = encode_response(Answer((AnswerChoice("", "", "length"),), Usage(9, 0)), WHO)
    read = AnthropicMessage.model_validate_json(body, strict=True)
    assert (read.content, read.stop_reason) == ([], "max_tokens")
    events: list[Event] = [AnswerStarted(Usage(9, 0)), Finish(0, "length"), Done(Usage(9, 0))]
    bodies = sent(events, GenerationOptions(max_tokens=0))
    assert [b["type"] for b in bodies] == [
        *("message_start", "ping", "message_delta", "message_stop")
    ]


def test_an_ended_answer_of_one_hidden_token_still_has_a_text() -> None:
    body = encode_response(Answer((AnswerChoice("", "", "stop"),), Usage(9, 1)), WHO)
    assert msgspec.json.decode(body)["content"] == [{"type": "text", "text": ""}]


def test_a_failure_is_an_error_event() -> None:
    bodies = sent([AnswerStarted(Usage(1, 0)), Failure(Refusal(503, "overloaded", "Busy."))])
    assert bodies[-1] == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "Busy."},
    }


def _delta(index: int, **delta: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


@pytest.mark.parametrize(
    ("marks", "body"),
    [
        (True, {"system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]}),
        (True, {"tools": [{"name": "f", "input_schema": {}, "cache_control": {"type": "e"}}]}),
        (True, {"cache_control": {"type": "ephemeral"}}),
        (False, {"system": [{"type": "text", "text": "a", "cache_control": None}]}),
        (False, {"system": '"cache_control": {"type": "ephemeral"}'}),
        (False, {}),
    ],
)
def test_what_is_to_be_cached_may_be_marked_anywhere(marks: bool, body: dict[str, Any]) -> None:
    assert decoded(**body).options.cache_marked is marks


@pytest.mark.parametrize(
    ("prompt", "cached", "created"), [(100, 64, 32), (100, 0, 96), (96, 96, 0), (20, 0, 0)]
)
def test_usage_says_truly_what_the_cache_held_and_holds_now(
    prompt: int, cached: int, created: int
) -> None:
    usage = Usage(prompt, 4, cached, cache_marked=True)
    body = encode_response(Answer((AnswerChoice("x", "", "stop"),), usage), WHO)
    read = AnthropicMessage.model_validate_json(body, strict=True).usage
    assert read.cache_read_input_tokens == cached and read.cache_creation_input_tokens == created
    assert read.cache_creation and read.cache_creation.ephemeral_5m_input_tokens == created
    assert read.input_tokens == prompt - cached - created
    assert PAGE == pages.PAGE
