"""Answers of chat completions, as the official package's types and other servers have them."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from bessemer.engine.request import Refusal
from bessemer.translate.chat import (
    AnswerStarted,
    ArgumentsDelta,
    Done,
    Event,
    Finish,
    ReasoningDelta,
    TextDelta,
    ThoughtSigned,
    TokenText,
    ToolCall,
    ToolCallBegun,
    Usage,
)
from bessemer.translate.dialect import ServerEvent
from bessemer.translate.upstream.openai_chat import UPSTREAM
from tests.translate.upstream.answered import answer

Body = dict[str, Any]
USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 9,
    "total_tokens": 19,
    "prompt_tokens_details": {"cached_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 4},
}
DONE = Done(Usage(10, 9, cached=2, reasoning=4))
HEAD = {"id": "x", "created": 5, "model": "gpt-5.6"}


def whole(*messages: Body, reason: str = "stop", **more: Any) -> bytes:
    """Return a completion of the official type."""
    choices = [
        {"index": at, "message": {"role": "assistant", "content": None, **each},
         "finish_reason": reason, "logprobs": None, **more}
        for at, each in enumerate(messages)
    ]  # fmt: skip
    body = {**HEAD, "object": "chat.completion", "choices": choices, "usage": USAGE}
    ChatCompletion.model_validate(body)
    return json.dumps(body).encode()


def read(body: bytes) -> list[Event]:
    return list(UPSTREAM.decode_response(body))


def chunk(
    delta: Body | None = None, reason: str | None = None, index: int = 0, **more: Any
) -> Body:
    choice = {"index": index, "delta": delta or {}, "finish_reason": reason, **more}
    body = {**HEAD, "object": "chat.completion.chunk", "choices": [choice]}
    ChatCompletionChunk.model_validate(body)
    return body


LAST: Body = {**HEAD, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}


def streamed(*chunks: Body, end: bool = True) -> list[Event]:
    """Return the events of a stream, which is over at its end and not before."""
    decoder, events = UPSTREAM.stream(), list[Event]()
    for each in chunks:
        assert not decoder.over
        events += decoder.decode(ServerEvent(json.dumps(each).encode()))
    if end:
        events += decoder.decode(ServerEvent(b"[DONE]", mark=True))
        assert decoder.over and isinstance(events[-1], Done)
        assert not [*decoder.decode(ServerEvent(b"[DONE]"))]
    return events


def call(index: int, id: str | None = None, name: str | None = None, text: str = "") -> Body:
    function: Body = {"arguments": text} | ({"name": name} if name else {})
    about: Body = {"index": index, "function": function}
    return {"tool_calls": [about | ({"id": id, "type": "function"} if id else {})]}


def test_a_whole_answer() -> None:
    calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": n, "arguments": '{"a":1}'}}
        for n in "ab"
    ]
    message = {"content": "Hi", "reasoning_content": "Hm.", "tool_calls": calls}
    events = read(whole(message, reason="tool_calls"))
    assert events[0] == AnswerStarted(DONE.usage) and events[-1] == DONE
    (choice,) = answer(events).choices
    assert (choice.text, choice.reasoning, choice.reason) == ("Hi", "Hm.", "tool_calls")
    assert choice.calls == tuple(ToolCall(f"call_{n}", n, '{"a":1}') for n in "ab")


def test_a_whole_answer_in_a_stream() -> None:
    events = streamed(
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "H"}),
        chunk({"reasoning_content": "m."}),
        chunk({"content": "H"}),
        chunk({"content": "i"}),
        chunk(call(0, "call_a", "a")),
        chunk(call(0, text='{"a"')),
        chunk(call(0, text=":1}")),
        chunk(call(1, "call_b", "b", "{}")),
        chunk(reason="tool_calls"),
        LAST,
        end=False,
    )
    assert events == [
        AnswerStarted(Usage(0, 0)),
        ReasoningDelta(0, "H"),
        ReasoningDelta(0, "m."),
        TextDelta(0, "H"),
        TextDelta(0, "i"),
        ToolCallBegun(0, 0, "call_a", "a"),
        ArgumentsDelta(0, 0, '{"a"'),
        ArgumentsDelta(0, 0, ":1}"),
        ToolCallBegun(0, 1, "call_b", "b"),
        ArgumentsDelta(0, 1, "{}"),
        Finish(0, "tool_calls"),
        DONE,
    ]


def test_several_answers() -> None:
    events = read(whole({"content": "A"}, {"content": "B"}))
    assert events[0] == AnswerStarted(DONE.usage, 2)
    assert [each for each in events if isinstance(each, TextDelta)] == [
        TextDelta(0, "A"), TextDelta(1, "B")
    ]  # fmt: skip
    parts = [chunk({"content": "A"}), chunk({"content": "B"}, index=1)]
    events = streamed(
        *parts, chunk(reason="stop", index=1), chunk(reason="length"), LAST, end=False
    )
    assert [each for each in events if isinstance(each, Finish)] == [
        Finish(0, "length"), Finish(1, "stop")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "refusal"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("something new", "stop"),
    ],
)
def test_reasons(said: str, reason: str) -> None:
    data = json.loads(whole({"content": "A"}))
    data["choices"][0]["finish_reason"] = said
    assert answer(read(json.dumps(data).encode())).choices[0].reason == reason


def test_calls_end_an_answer_whatever_a_server_says() -> None:
    """As llama.cpp and others do that say stop."""
    events = streamed(chunk(call(0, "a", "add", "{}")), chunk(reason="stop"))
    assert Finish(0, "tool_calls") in events


def test_thoughts_by_whatever_name_are_told_once() -> None:
    detail = {"type": "reasoning.text", "text": "Hm.", "signature": "sig", "format": "x"}
    sealed = {"type": "reasoning.encrypted", "data": "data"}
    expected = [
        ReasoningDelta(0, "Hm."),
        ThoughtSigned(0, "sig", origin="openai"),
        ThoughtSigned(0, "data", redacted=True, origin="openai"),
    ]
    for names in ({}, {"reasoning": "Hm."}, {"reasoning": "Hm.", "reasoning_content": "Hm."}):
        message = {"content": "A", "reasoning_details": [detail, sealed], **names}
        assert read(whole(message))[1:4] == expected
        assert streamed(chunk(message), chunk(reason="stop"))[1:4] == expected


def test_contents_in_parts_and_refusals_are_texts() -> None:
    thinking = [{"type": "text", "text": "H"}, {"type": "text", "text": "m."}]
    parts = [{"type": "thinking", "thinking": thinking}, {"type": "text", "text": "Hi"}]
    data = json.loads(whole({"content": ""}))
    data["choices"][0]["message"]["content"] = parts
    events = read(json.dumps(data).encode())
    assert events[1:3] == [ReasoningDelta(0, "Hm."), TextDelta(0, "Hi")]
    assert answer(read(whole({"refusal": "I will not."}))).choices[0].text == "I will not."


def test_log_probabilities() -> None:
    top = [{"token": "B", "logprob": -2.0, "bytes": [66]}]
    token = {"token": "A", "logprob": -0.5, "bytes": None, "top_logprobs": top}
    expected = (TokenText("A", b"A", -0.5, (TokenText("B", b"B", -2.0),)),)
    logprobs = {"content": [token], "refusal": None}
    assert read(whole({"content": "A"}, logprobs=logprobs))[1] == TextDelta(0, "A", expected)
    events = streamed(chunk({"content": "A"}, logprobs=logprobs), chunk(reason="stop"))
    assert events[1] == TextDelta(0, "A", expected)


def test_calls_as_other_servers_tell_them() -> None:
    """Without numbers or ids, whole, with arguments as an object, or by OpenAI's first name."""
    one = {"function": {"name": "add", "arguments": {"a": 1}}}
    two = {"function": {"name": "add", "arguments": "{}"}}
    events = streamed(
        {**HEAD, "choices": [{"index": 0, "delta": {"tool_calls": [one]}}]},
        {**HEAD, "choices": [{"index": 0, "delta": {"tool_calls": [two]}}]},
        chunk(reason="stop"),
    )
    calls = answer(events).choices[0].calls
    assert [(each.name, each.arguments) for each in calls] == [("add", '{"a":1}'), ("add", "{}")]
    assert len({each.id for each in calls}) == 2 and all(each.id for each in calls)
    old = chunk({"function_call": {"name": "add", "arguments": "{"}})
    more = {**HEAD, "choices": [{"index": 0, "delta": {"function_call": {"arguments": "}"}}}]}
    (call_,) = answer(streamed(old, more, chunk(reason="function_call"))).choices[0].calls
    assert (call_.name, call_.arguments) == ("add", "{}")


def test_calls_that_have_all_the_same_number() -> None:
    """As Gemini's have; what comes without an id is of the last of them."""
    events = streamed(
        chunk(call(0, "a", "add", '{"a":1}')),
        chunk(call(0, "b", "clock", "{")),
        chunk(call(0, None, None, "}")),
        chunk(call(0, "a", "add", "")),
        chunk(reason="tool_calls"),
    )
    assert answer(events).choices[0].calls == (
        ToolCall("a", "add", '{"a":1}'), ToolCall("b", "clock", "{}")
    )  # fmt: skip


def test_ids_that_come_anew_with_each_piece_are_of_one_call() -> None:
    """As some servers' do, whose pieces have no names."""
    pieces = [chunk(call(0, "a", "add", "{")), chunk(call(0, "b", None, "}"))]
    (only,) = answer(streamed(*pieces, chunk(reason="stop"))).choices[0].calls
    assert only == ToolCall("a", "add", "{}")


def test_each_thought_has_its_own_signature() -> None:
    """In a whole answer too, whether its text is told apart or only there."""
    texts = [("One.", "1"), ("Two.", "2")]
    details = [{"type": "reasoning.text", "text": t, "signature": s} for t, s in texts]
    for names in ({}, {"reasoning": "One.Two."}):
        events = read(whole({"content": "A", "reasoning_details": details, **names}))
        signed = answer(events).choices[0].signed
        assert [(each.text, each.signature) for each in signed] == texts
    other = {"content": "A", "reasoning_details": details[:1], "reasoning": "Other."}
    (choice,) = answer(read(whole(other))).choices
    assert (choice.reasoning, choice.signed[0].signature) == ("Other.", "1")


@pytest.mark.parametrize("error", [{"message": "No.", "code": 502}, "No."])
def test_an_error_of_one_answer_is_none_of_a_model_that_said_nothing(error: Any) -> None:
    """OpenRouter's."""
    with pytest.raises(Refusal, match=r"No\."):
        read(whole({"content": ""}, error=error))
    with pytest.raises(Refusal, match=r"No\."):
        streamed(chunk({"content": "A"}), chunk(error=error))


@pytest.mark.parametrize("name", ["prompt_cache_hit_tokens", "cached_tokens"])
def test_other_servers_names_of_what_was_cached(name: str) -> None:
    body = json.loads(whole({"content": "A"}))
    body["usage"] = {"prompt_tokens": 10, "completion_tokens": 9, name: 7}
    assert read(json.dumps(body).encode())[-1] == Done(Usage(10, 9, cached=7))


def test_a_stop_string_that_a_server_tells() -> None:
    data = json.loads(whole({"content": "A"}))
    data["choices"][0]["stop_reason"] = "END"
    assert answer(read(json.dumps(data).encode())).choices[0].stop == "END"


def test_a_stream_may_tell_its_tokens_in_every_chunk() -> None:
    events = streamed(
        chunk({"content": "A"}) | {"usage": {"prompt_tokens": 5, "completion_tokens": 1}},
        chunk(reason="stop") | {"usage": {"prompt_tokens": 5, "completion_tokens": 2}},
    )
    assert events[0] == AnswerStarted(Usage(5, 1)) and events[-1] == Done(Usage(5, 2))


@pytest.mark.parametrize("error", [{"message": "No.", "code": 429}, "No."])
def test_errors_are_refusals(error: Any) -> None:
    body = {"error": error}
    with pytest.raises(Refusal, match=r"No\."):
        read(json.dumps(body).encode())
    with pytest.raises(Refusal, match=r"No\.") as caught:
        streamed(chunk({"content": "A"}), body)
    assert caught.value.status == (429 if isinstance(error, dict) else 500)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"<html>", b'{"choices":[]}', b'{"choices":5}'])
def test_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(ValueError):
        read(body)


def test_a_stream_that_ends_early_is_not_over() -> None:
    for told in ([], [chunk({"content": "A"})], [chunk({"content": "A"}), LAST]):
        decoder = UPSTREAM.stream()
        for each in told:
            for event in decoder.decode(ServerEvent(json.dumps(each).encode())):
                assert not isinstance(event, Done)
        assert not decoder.over
    for data in (b"[DONE]", b'{"choices":5}', b"nonsense"):
        with pytest.raises(ValueError):
            list(UPSTREAM.stream().decode(ServerEvent(data)))


def test_what_means_nothing_says_nothing() -> None:
    decoder = UPSTREAM.stream()
    for data in (b"", b'{"choices":[]}', b'{"object":"ping"}'):
        events = [*decoder.decode(ServerEvent(data))]
        assert not [each for each in events if not isinstance(each, AnswerStarted)]
