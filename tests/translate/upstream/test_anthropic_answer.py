"""Answers of Anthropic's Messages API, as the official package puts their events together."""

import json
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

from bessemer.engine.request import Refusal
from bessemer.translate.chat import (
    AnswerStarted,
    ArgumentsDelta,
    Done,
    Finish,
    Heartbeat,
    ReasoningDelta,
    TextDelta,
    ThoughtSigned,
    ToolCall,
    ToolCallBegun,
    Usage,
)
from bessemer.translate.dialect import ServerEvent
from bessemer.translate.parts import SignedThought
from bessemer.translate.upstream.anthropic import UPSTREAM
from tests.translate.upstream.answered import answer, streamed, told

OFFICIAL: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
Body = dict[str, Any]
PING: Body = {"type": "ping"}
STOP: Body = {"type": "message_stop"}
COUNTS = {
    "input_tokens": 5,
    "cache_creation_input_tokens": 3,
    "cache_read_input_tokens": 2,
    "output_tokens": 1,
}
START: Body = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-4-8",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**COUNTS, "service_tier": "standard"},
    },
}


def block(index: int, *deltas: Body, **about: Any) -> list[Body]:
    """Return the events of a block."""
    return [
        {"type": "content_block_start", "index": index, "content_block": about},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text(index: int, *pieces: str, citations: tuple[Body, ...] = ()) -> list[Body]:
    deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
    cited = [{"type": "citations_delta", "citation": each} for each in citations]
    return block(index, *deltas, *cited, type="text", text="", citations=[] if cited else None)


def thought(index: int, *pieces: str, signature: str = "") -> list[Body]:
    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
    signed = {"type": "signature_delta", "signature": signature}
    about = {"type": "thinking", "thinking": "", "signature": ""}
    return block(index, *deltas, *([signed] if signature else []), **about)


def call(index: int, id: str, *pieces: str, **about: Any) -> list[Body]:
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    begun = {"type": "tool_use", "id": id, "name": "add", "input": {}}
    return block(index, *deltas, **(begun | about))


def end(reason: str | None = "end_turn", stop: str | None = None, **more: Any) -> list[Body]:
    delta = {"stop_reason": reason, "stop_sequence": stop, **more}
    usage = {"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}}
    return [{"type": "message_delta", "delta": delta, "usage": usage}, STOP]


def whole(bodies: list[Body]) -> bytes:
    """Return the message that the official package makes of a stream."""
    for body in bodies:
        if body["type"] != "ping":
            OFFICIAL.validate_python(body)
    events = (f"event: {body['type']}\ndata: {json.dumps(body)}\n\n" for body in bodies)
    page = httpx2.Response(200, headers={"content-type": "text/event-stream"}, text="".join(events))
    transport = httpx2.MockTransport(lambda request: page)
    client = Anthropic(api_key="k", http_client=httpx2.Client(transport=transport))
    asked: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    with client.messages.stream(**asked) as stream:
        return stream.get_final_message().to_json(indent=None).encode()


ALL = [
    START,
    PING,
    *thought(0, "H", "m.", signature="EqQB"),
    *block(1, type="redacted_thinking", data="blob"),
    *text(2, "Let me", " see."),
    PING,
    *call(3, "toolu_1", "", '{"a":', "1}"),
    *call(4, "toolu_2"),
    *end("tool_use"),
]
DONE = Done(Usage(10, 9, cached=2, reasoning=4, created=3))


def test_the_events_of_a_stream() -> None:
    assert streamed(UPSTREAM, ALL) == [
        AnswerStarted(Usage(10, 1, cached=2, created=3)),
        Heartbeat(),
        ReasoningDelta(0, "H"),
        ReasoningDelta(0, "m."),
        ThoughtSigned(0, "EqQB", origin="anthropic"),
        ThoughtSigned(0, "blob", redacted=True, origin="anthropic"),
        TextDelta(0, "Let me"),
        TextDelta(0, " see."),
        Heartbeat(),
        ToolCallBegun(0, 0, "toolu_1", "add"),
        ArgumentsDelta(0, 0, '{"a":'),
        ArgumentsDelta(0, 0, "1}"),
        ToolCallBegun(0, 1, "toolu_2", "add"),
        ArgumentsDelta(0, 1, "{}"),
        Finish(0, "tool_calls"),
        DONE,
    ]


PAGE = {
    "type": "web_search_result_location",
    "url": "https://a.org",
    "title": "A",
    "encrypted_index": "x",
}
STEEL = {
    "type": "page_location",
    "cited_text": "Iron.",
    "document_index": 1,
    "document_title": "Steel",
    "start_page_number": 3,
    "end_page_number": 4,
}
UNNAMED = {**STEEL, "type": "char_location", "document_title": None, "start_char_index": 0}
UNNAMED = {key: UNNAMED[key] for key in UNNAMED if "page" not in key} | {"end_char_index": 5}
PAGE |= {"cited_text": "Iron."}


@pytest.mark.parametrize(
    "bodies",
    [
        ALL,
        [START, *text(0, "Hello"), *end("stop_sequence", "END")],
        [START, *thought(0, signature="EqQB"), *text(1, "So."), *end("max_tokens")],
        [START, *text(0, "Iron", citations=(PAGE, STEEL, STEEL, UNNAMED)), *text(1, "."), *end()],
        [START, *end("refusal", stop_details={"type": "refusal", "explanation": "No."})],
        [START, *end()],
    ],
)
def test_a_whole_answer_is_what_its_stream_comes_to(bodies: list[Body]) -> None:
    events = UPSTREAM.decode_response(whole(bodies))
    assert answer(events) == answer(streamed(UPSTREAM, bodies))
    assert isinstance(events[0], AnswerStarted) and isinstance(events[-1], Done)


def test_an_answer() -> None:
    (choice,) = answer(UPSTREAM.decode_response(whole(ALL))).choices
    assert (choice.text, choice.reasoning, choice.reason) == ("Let me see.", "Hm.", "tool_calls")
    assert choice.signed == (
        SignedThought("Hm.", "EqQB", "anthropic"),
        SignedThought("", "blob", "anthropic"),
    )
    assert choice.calls == (
        ToolCall("toolu_1", "add", '{"a":1}'),
        ToolCall("toolu_2", "add", "{}"),
    )


def test_citations_are_text_behind_what_they_are_of() -> None:
    bodies = [
        START,
        *text(0, "Iron", citations=(PAGE, STEEL, STEEL, UNNAMED)),
        *text(1, "."),
        *end(),
    ]
    (choice,) = answer(streamed(UPSTREAM, bodies)).choices
    assert choice.text == "Iron [A](https://a.org) [Steel, p. 3] [document 2]."


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "stop"),
        ("refusal", "refusal"),
        ("model_context_window_exceeded", "length"),
        ("of_another_year", "stop"),
        (None, "stop"),
    ],
)
def test_stop_reasons(reason: str | None, expected: str) -> None:
    stop = "END" if reason == "stop_sequence" else None
    *_, finish, _ = streamed(UPSTREAM, [START, *text(0, "a"), *end(reason, stop)])
    assert finish == Finish(0, expected, stop)


def test_a_refusal_says_why() -> None:
    why = {"type": "refusal", "category": "bio", "explanation": "Not that."}
    (choice,) = answer(streamed(UPSTREAM, [START, *end("refusal", stop_details=why)])).choices
    assert (choice.text, choice.reason) == ("Not that.", "refusal")


def test_what_other_servers_of_this_dialect_do() -> None:
    """Blocks that have all from the beginning, none that ends, no names, more after the end."""
    bodies = [
        {**START, "message": {"type": "message", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "a"}},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "thinking", "thinking": "b", "signature": "c"},
        },
        *thought(1, "d")[1:2],
        *thought(1, "e", signature="f"),
        *call(2, "t", input={"a": 1})[:1],
        *end(None)[:1],
        STOP,
    ]
    decoder = UPSTREAM.stream()
    events = [e for body in bodies for e in decoder.decode(ServerEvent(json.dumps(body).encode()))]
    assert decoder.over and not [*decoder.decode(ServerEvent(b"[DONE]"))]
    assert not [*decoder.decode(ServerEvent(json.dumps(STOP).encode()))]
    assert events == [
        AnswerStarted(Usage(0, 0)),
        TextDelta(0, "a"),
        ReasoningDelta(0, "b"),
        ReasoningDelta(0, "d"),
        ThoughtSigned(0, "c", origin="anthropic"),
        ReasoningDelta(0, "e"),
        ThoughtSigned(0, "f", origin="anthropic"),
        ToolCallBegun(0, 0, "t", "add"),
        ArgumentsDelta(0, 0, '{"a": 1}'),
        Finish(0, "tool_calls"),
        Done(Usage(0, 9, reasoning=4)),
    ]


def test_what_nobody_knows_is_passed_over() -> None:
    odd = {"type": "text", "text": {"of": "another form"}}
    searched = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": [PAGE]}
    bodies = [
        {**START, "news": 1},
        {"type": "message_news", "delta": 5},
        *block(0, {"type": "input_json_delta", "partial_json": '{"q"'}, **searched),
        *block(1, **found),
        *block(2, {"type": "smell_delta", "text": 5}, type="smell", text=odd),
        *block(
            3, {"type": "smell_delta", "text": 5}, {"type": "text_delta", "text": "a"}, type="text"
        ),
        {"type": "content_block_stop", "index": 7},
        *end(),
    ]
    assert told(streamed(UPSTREAM, bodies))[1:-2] == [TextDelta(0, "a")]
    content = [searched, found, {"type": "text", "text": "a"}]
    body = {"type": "message", "content": content, "stop_reason": "end_turn", "usage": COUNTS}
    (choice,) = answer(UPSTREAM.decode_response(json.dumps(body).encode())).choices
    assert (choice.text, choice.calls) == ("a", ())


def test_a_stream_that_does_not_end_is_not_over() -> None:
    events = streamed(UPSTREAM, ALL[:-1], whole=False)
    assert not any(isinstance(event, Finish | Done) for event in events)


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("overloaded_error", 529, "overloaded"),
        ("rate_limit_error", 429, "rate_limit_exceeded"),
        ("invalid_request_error", 400, "invalid_request"),
        ("api_error", 500, "server_error"),
        ("of_another_year", 500, "server_error"),
    ],
)
def test_an_error_in_a_stream_is_raised(kind: str, status: int, code: str) -> None:
    body = {"type": "error", "error": {"type": kind, "message": "Why."}, "request_id": "r"}
    for before in ([], [START, *text(0, "a")]):
        with pytest.raises(Refusal) as caught:
            streamed(UPSTREAM, [*before, body])
        refusal = caught.value
        assert (refusal.status, refusal.code, refusal.message) == (status, code, "Why.")
    with pytest.raises(Refusal, match="Why"):
        UPSTREAM.decode_response(json.dumps(body).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b'{"type": "message_start", "message": 5}',
        b'{"type": "message_delta", "usage": 1}',
    ],
)
def test_what_is_no_event_is_a_fault(data: bytes) -> None:
    with pytest.raises(ValueError):
        UPSTREAM.stream().decode(ServerEvent(data))


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"type": "message", "content": 5}']
)
def test_what_is_no_answer_is_a_fault(body: bytes) -> None:
    with pytest.raises(ValueError):
        UPSTREAM.decode_response(body)
