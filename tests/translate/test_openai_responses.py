"""Answers as OpenAI's responses: bodies and streams, as the official package's types have them."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from openai.types.responses import Response

from bessemer.engine.request import Refusal
from bessemer.translate.chat import (
    AnswerStarted,
    ArgumentsDelta,
    Done,
    Event,
    Failure,
    Finish,
    Heartbeat,
    Identity,
    ReasoningDelta,
    Shortened,
    TextDelta,
    TokenText,
    ToolCallBegun,
    Usage,
)
from bessemer.translate.openai_responses import ResponseWriter, encode_piece
from bessemer.translate.openai_responses_body import encode_json, output_items
from bessemer.translate.openai_responses_request import decode_request
from tests.translate.responses_stream import checked

WHO = Identity("resp_7", 5, "m")
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True},
    {"type": "custom", "name": "patch", "description": "Patches."},
    {
        "type": "namespace",
        "name": "agents",
        "description": "Others.",
        "tools": [{"type": "function", "name": "ask"}],
    },
    {"type": "web_search"},
]
START, END = AnswerStarted(Usage(3, 0)), Done(Usage(3, 9, cached=2, reasoning=4))
ALL: tuple[Event, ...] = (
    START,
    ReasoningDelta(0, "I "),
    ReasoningDelta(0, "think."),
    TextDelta(0, "Let "),
    Heartbeat(),
    TextDelta(0, "me."),
    ToolCallBegun(0, 0, "call_1", "add"),
    ArgumentsDelta(0, 0, '{"a":'),
    ArgumentsDelta(0, 0, "1}"),
    ToolCallBegun(0, 1, "call_2", "patch"),
    ArgumentsDelta(0, 1, '{"input": "*** Begin\\'),
    ArgumentsDelta(0, 1, 'n\\"x\\""}'),
    ToolCallBegun(0, 2, "call_3", "agents__ask"),
    Finish(0, "tool_calls"),
    END,
)


def writer(**fields: Any) -> ResponseWriter:
    body = {"model": "m", "input": "Hi", "tools": TOOLS, "stream": True} | fields
    return ResponseWriter(decode_request(json.dumps(body).encode()), WHO, True, lambda: 8.5)


def streamed(events: Sequence[Event], **fields: Any) -> list[dict[str, Any]]:
    """Return the events of a stream; each has its type for a name."""
    writing = writer(**fields)
    sent = [encode_piece(piece) for event in events for piece in writing.add(event)]
    told = [json.loads(event.data) for event in sent]
    assert [event.name for event in sent] == [event["type"] for event in told]
    return told


def whole(events: Sequence[Event], **fields: Any) -> dict[str, Any]:
    writing = writer(stream=False, **fields)
    for event in events:
        writing.add(event)
    body: dict[str, Any] = json.loads(encode_json(writing.body))
    Response.model_validate(body)
    return body


def without_ids(output: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in item.items() if key != "id"} for item in output]


def test_every_kind_of_item_whole_and_streamed() -> None:
    final = checked(streamed(ALL))
    assert without_ids(final["output"]) == without_ids(whole(ALL)["output"])
    thought, text, add, patch, ask = final["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "I think."}]
    assert thought["summary"] == [] and "encrypted_content" not in thought
    assert text["content"][0]["text"] == "Let me." and text["role"] == "assistant"
    assert (add["name"], add["call_id"], add["arguments"]) == ("add", "call_1", '{"a":1}')
    assert (patch["type"], patch["name"]) == ("custom_tool_call", "patch")
    assert patch["input"] == '*** Begin\n"x"'
    assert (ask["namespace"], ask["name"], ask["arguments"]) == ("agents", "ask", "{}")
    assert {item["status"] for item in final["output"]} == {"completed"}
    assert [item["id"].rpartition("_")[0] for item in final["output"]] == [
        "rs", "msg", "fc", "ctc", "fc",
    ]  # fmt: skip


def test_the_events_of_a_text_in_order() -> None:
    events = streamed((START, TextDelta(0, "Hel"), TextDelta(0, "lo"), Finish(0, "stop"), END))
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    final = checked(events)
    assert (final["status"], final["created_at"], final["completed_at"]) == ("completed", 5, 8)
    assert final["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 12,
    }
    assert events[0]["response"]["usage"] is None and events[0]["response"]["output"] == []
    assert events[0]["response"]["status"] == "in_progress"


def test_usage_says_what_a_prompt_lost() -> None:
    lost = Done(Usage(3, 9, shortened=Shortened("truncate", messages=2)))
    usage = checked(streamed((START, TextDelta(0, "x"), Finish(0, "stop"), lost)))["usage"]
    assert usage["context_overflow"] == {"policy": "truncate", "messages": 2, "tokens": 0}


def test_a_thought_is_told_as_its_summary_where_one_is_asked_for() -> None:
    for asked in ({"summary": "auto"}, {"generate_summary": "detailed"}):
        events = streamed(
            (START, ReasoningDelta(0, "Hm."), Finish(0, "stop"), END), reasoning=asked
        )
        item = checked(events)["output"][0]
        assert item["summary"] == [{"type": "summary_text", "text": "Hm."}]
        assert "content" not in item
        kinds = [event["type"] for event in events]
        assert "response.reasoning_summary_part.added" in kinds
        assert "response.reasoning_summary_text.done" in kinds
        assert not any("reasoning_text" in kind for kind in kinds)


def test_a_sealed_thought_is_what_a_client_sends_back() -> None:
    include = ["reasoning.encrypted_content"]
    thought = whole(ALL, include=include, reasoning={"summary": "auto"})["output"][0]
    assert thought["encrypted_content"] and "think" not in thought["encrypted_content"]
    thought["summary"] = []
    back = decode_request(json.dumps({"input": [thought, ALL_TEXT]}).encode()).chat()
    assert back.messages[0].reasoning == "I think."


ALL_TEXT = {"role": "assistant", "content": "Let me."}


def test_what_its_limit_cut_is_incomplete() -> None:
    for events, statuses in (
        ((TextDelta(0, "Hel"),), ["incomplete"]),
        ((ReasoningDelta(0, "Hm"),), ["incomplete"]),
        ((), ["incomplete"]),
        ((ToolCallBegun(0, 0, "c", "add"), ArgumentsDelta(0, 0, "{}")), ["completed"]),
    ):
        told = streamed((START, *events, Finish(0, "length"), END))
        final = checked(told)
        assert told[-1]["type"] == "response.incomplete" and final["status"] == "incomplete"
        assert final["incomplete_details"] == {"reason": "max_output_tokens"}
        assert final["completed_at"] is None
        assert [item["status"] for item in final["output"]] == statuses


def test_a_call_that_broke_off_has_no_end_and_a_whole_answer_leaves_it_out() -> None:
    broken: tuple[Event, ...] = (
        START,
        ToolCallBegun(0, 0, "call_1", "add"),
        ArgumentsDelta(0, 0, '{"a":'),
        TextDelta(0, "<tool_call>{"),
        Finish(0, "length"),
        END,
    )
    told = streamed(broken)
    call, text = checked(told)["output"]
    assert (call["status"], text["status"]) == ("incomplete", "incomplete")
    done = [event for event in told if event["type"] == "response.output_item.done"]
    assert [event["item"]["type"] for event in done] == ["message"]
    assert not any(event["type"].endswith("arguments.done") for event in told)
    assert [item["type"] for item in whole(broken)["output"]] == ["message"]
    items = [json.loads(item) for _, item in output_items(_written(broken).body)]
    again = decode_request(json.dumps({"input": items}).encode()).chat()
    assert again.messages[0].calls == () and again.messages[0].text == "<tool_call>{"


def _written(events: Sequence[Event]) -> ResponseWriter:
    writing = writer()
    for event in events:
        writing.add(event)
    return writing


def test_an_answer_without_a_word_has_an_empty_message() -> None:
    (item,) = checked(streamed((START, Finish(0, "stop"), END)))["output"]
    assert item["type"] == "message" and item["content"][0]["text"] == ""
    thought, item = checked(streamed((START, ReasoningDelta(0, "x"), Finish(0, "stop"), END)))[
        "output"
    ]
    assert (thought["status"], item["type"]) == ("completed", "message")


def test_signs_of_life_are_events_with_numbers_even_before_the_beginning() -> None:
    events = streamed((Heartbeat(), Heartbeat(), START, TextDelta(0, "x"), Finish(0, "stop"), END))
    checked(events)
    assert [event["type"] for event in events].count("response.in_progress") == 3


def test_a_failure_says_why_and_keeps_what_there_is() -> None:
    for status, code in (
        (503, "server_error"),
        (429, "rate_limit_exceeded"),
        (400, "invalid_prompt"),
    ):
        failure = Failure(Refusal(status, "overloaded", "No more.", "input"))
        told = streamed((START, TextDelta(0, "Hel"), failure, TextDelta(0, "lo"), END))
        final = checked(told)
        assert final["error"] == {"code": code, "message": "No more."}
        assert final["output"][0]["status"] == "incomplete"
        error = told[-2]
        assert (error["type"], error["code"], error["param"]) == ("error", "overloaded", "input")
        assert final["usage"] is None
    assert checked(streamed((Failure(Refusal(503, "x", "y")),)))["status"] == "failed"


def test_a_response_in_the_background_is_queued_and_may_be_cancelled() -> None:
    writing = writer(background=True)
    pieces = [*writing.queue(), *writing.add(START), *writing.add(TextDelta(0, "Hel"))]
    assert [piece.type for piece in pieces[:3]] == [
        "response.created", "response.queued", "response.in_progress",
    ]  # fmt: skip
    first = json.loads(encode_json(pieces[0]))
    assert first["response"]["status"] == "queued" and first["response"]["background"]
    (last,) = writing.cancel()
    assert (last.type, last.code, last.sequence_number) == ("error", "cancelled", len(pieces))
    body = json.loads(encode_json(writing.body))
    assert Response.model_validate(body).status == "cancelled" and writing.over
    assert body["output"][0]["content"][0]["text"] == "Hel"
    assert writing.add(TextDelta(0, "lo")) == []


def test_logprobs_are_in_deltas_and_in_the_whole() -> None:
    top = (TokenText("Hi", b"Hi", -0.5), TokenText("Ho", b"Ho", -1.5))
    tokens = TokenText("Hi", b"Hi", -0.5, top), TokenText("!", b"!", -0.25)
    events = (START, TextDelta(0, "", tokens[:1]), TextDelta(0, "Hi!", tokens[1:]))
    told = streamed((*events, Finish(0, "stop"), END), top_logprobs=2)
    part = checked(told)["output"][0]["content"][0]
    assert [each["token"] for each in part["logprobs"]] == ["Hi", "!"]
    assert part["logprobs"][0]["top_logprobs"][1] == {
        "token": "Ho", "logprob": -1.5, "bytes": [72, 111],
    }  # fmt: skip
    deltas = [e for e in told if e["type"] == "response.output_text.delta"]
    assert [len(event["logprobs"]) for event in deltas] == [1, 1]
    done = next(event for event in told if event["type"] == "response.output_text.done")
    assert done["logprobs"] == part["logprobs"]


def test_obfuscation_hides_how_long_a_delta_is() -> None:
    texts = ["a" * size for size in range(1, 40)]
    events = (START, *(TextDelta(0, text) for text in texts), Finish(0, "stop"), END)
    told = streamed(events, stream_options={"include_obfuscation": True})
    checked(told)
    sizes = {len(e["delta"]) + len(e["obfuscation"]) for e in told if "delta" in e}
    assert sizes == {16, 32, 48}
    assert not any("obfuscation" in event for event in streamed(events))


def test_a_stream_that_lacks_something_is_judged_illegal() -> None:
    """The judge of streams itself, by what it is for."""
    told = streamed(ALL)
    for at, event in enumerate(told):
        kind = event["type"].removeprefix("response.")
        rest = [dict(each) for each in (*told[:at], *told[at + 1 :])]
        if kind in ("created", "output_item.added", "completed") or kind.endswith("delta"):
            for number, each in enumerate(rest):
                each["sequence_number"] = number
        with pytest.raises((AssertionError, KeyError)):
            checked(rest)


@pytest.mark.parametrize("cut", range(len(ALL)))
def test_a_stream_is_legal_wherever_it_breaks_off(cut: int) -> None:
    events = (*ALL[:cut], Failure(Refusal(500, "x", "y")))
    checked(streamed(events))


def test_events_of_a_kind_in_pieces_or_at_once_are_the_same_response() -> None:
    joined: list[Event] = [ALL[0]]
    for before, event in pairwise(ALL):
        if isinstance(event, ReasoningDelta) and isinstance(before, ReasoningDelta):
            joined[-1] = ReasoningDelta(0, before.text + event.text)
        elif not isinstance(event, Heartbeat):
            joined.append(event)
    assert len(joined) < len(ALL)
    assert without_ids(whole(joined)["output"]) == without_ids(whole(ALL)["output"])
