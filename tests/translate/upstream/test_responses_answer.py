"""Answers of OpenAI's Responses API, as the official package's types have them."""

import json
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
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
    TokenText,
    ToolCall,
    ToolCallBegun,
    Usage,
)
from bessemer.translate.dialect import ServerEvent
from bessemer.translate.parts import SignedThought
from bessemer.translate.upstream.responses import UPSTREAM
from tests.translate.upstream.answered import answer, streamed, told

OFFICIAL: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
Body = dict[str, Any]
USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 3},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 19,
}
DONE = Done(Usage(10, 9, cached=2, reasoning=4, created=3))


def response(status: str, *output: Body, **more: Any) -> Body:
    """Return a response as the service sends it."""
    about = {
        "id": "resp_1",
        "object": "response",
        "created_at": 5,
        "model": "gpt-5.6",
        "status": status,
        "output": [*output],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": USAGE if status != "in_progress" else None,
    }
    Response.model_validate(about | more)
    return about | more


def part(kind: str = "output_text", **more: Any) -> Body:
    return {
        "type": kind,
        **({"text": "", "annotations": []} if kind == "output_text" else {}),
        **more,
    }


def message(text: str = "", **more: Any) -> Body:
    content = [part(text=text, **more)] if text else []
    about = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    return about | {"content": content}


def reasoning(sealed: str | None = None, summary: str = "", content: str = "") -> Body:
    item: Body = {"id": "rs_1", "type": "reasoning", "summary": []}
    if summary:
        item["summary"] = [{"type": "summary_text", "text": each} for each in summary.split("|")]
    if content:
        item["content"] = [{"type": "reasoning_text", "text": content}]
    return item | ({} if sealed is None else {"encrypted_content": sealed})


def call(id: str, arguments: str = "") -> Body:
    about = {"id": f"fc_{id}", "type": "function_call", "status": "completed"}
    return about | {"call_id": id, "name": "add", "arguments": arguments}


class Told:
    """A stream as the service tells it, each event numbered and of the official type."""

    def __init__(self) -> None:
        self.bodies: list[Body] = []
        self.lifecycle("created", response("in_progress"))
        self.lifecycle("in_progress", response("in_progress"))
        self._index = -1

    def event(self, kind: str, **fields: Any) -> None:
        body = {"type": kind, "sequence_number": len(self.bodies), **fields}
        OFFICIAL.validate_python(body)
        self.bodies.append(body)

    def lifecycle(self, name: str, body: Body) -> None:
        self.event(f"response.{name}", response=body)

    def opened(self, item: Body) -> None:
        self._index += 1
        self.event("response.output_item.added", output_index=self._index, item=item)

    def delta(self, kind: str, text: str, **at: int) -> None:
        more = {"logprobs": []} if kind == "output_text" else {}
        about = {"item_id": "i", "output_index": self._index, "delta": text}
        self.event(f"response.{kind}.delta", **about, **at, **more)

    def closed(self, item: Body) -> None:
        self.event("response.output_item.done", output_index=self._index, item=item)

    def ended(self, *output: Body) -> list[Body]:
        self.lifecycle("completed", response("completed", *output))
        return self.bodies


OUTPUT = (
    reasoning("gAAA", summary="Hm.|Well."),
    reasoning("gBBB"),
    message("Let me see."),
    call("a", '{"a":1}'),
    call("b", "{}"),
)


def all_of_it() -> list[Body]:
    told = Told()
    told.opened(reasoning(""))
    about = {"item_id": "i", "output_index": 0}
    empty = {"type": "summary_text", "text": ""}
    for at, pieces in enumerate((("H", "m."), ("Well.",))):
        told.event("response.reasoning_summary_part.added", **about, summary_index=at, part=empty)
        for piece in pieces:
            told.delta("reasoning_summary_text", piece, summary_index=at)
        whole = {"summary_index": at, "text": "".join(pieces)}
        told.event("response.reasoning_summary_text.done", **about, **whole)
    told.closed(OUTPUT[0])
    told.opened(reasoning(""))
    told.closed(OUTPUT[1])
    told.opened(message() | {"status": "in_progress"})
    about = {"item_id": "i", "output_index": 2, "content_index": 0}
    told.event("response.content_part.added", **about, part=part())
    told.delta("output_text", "Let me", content_index=0)
    told.delta("output_text", " see.", content_index=0)
    told.event("response.output_text.done", **about, text="Let me see.", logprobs=[])
    told.event("response.content_part.done", **about, part=part(text="Let me see."))
    told.closed(OUTPUT[2])
    told.opened(call("a"))
    told.delta("function_call_arguments", '{"a":')
    told.delta("function_call_arguments", "1}")
    about = {"item_id": "fc_a", "output_index": 3, "name": "add", "arguments": '{"a":1}'}
    told.event("response.function_call_arguments.done", **about)
    told.closed(OUTPUT[3])
    told.opened(call("b"))
    told.closed(OUTPUT[4])
    return told.ended(*OUTPUT)


def test_the_events_of_a_stream() -> None:
    assert streamed(UPSTREAM, all_of_it()) == [
        AnswerStarted(Usage(0, 0)),
        ReasoningDelta(0, "H"),
        ReasoningDelta(0, "m."),
        ReasoningDelta(0, "\n\nWell."),
        ThoughtSigned(0, "gAAA", origin="responses"),
        ThoughtSigned(0, "gBBB", redacted=True, origin="responses"),
        TextDelta(0, "Let me"),
        TextDelta(0, " see."),
        ToolCallBegun(0, 0, "a", "add"),
        ArgumentsDelta(0, 0, '{"a":'),
        ArgumentsDelta(0, 0, "1}"),
        ToolCallBegun(0, 1, "b", "add"),
        ArgumentsDelta(0, 1, "{}"),
        Finish(0, "tool_calls"),
        DONE,
    ]


def alone(kinds: tuple[str, ...]) -> list[Body]:
    """Return the stream of a server that has no other events."""
    return [body for body in all_of_it() if body["type"] in kinds]


@pytest.mark.parametrize(
    "bodies",
    [
        all_of_it(),
        alone(("response.created", "response.completed")),
        alone(("response.output_item.done", "response.completed")),
        [body for body in all_of_it() if not body["type"].endswith("item.done")],
        [{k: v for k, v in body.items() if k != "output_index"} for body in all_of_it()],
    ],
)
def test_a_whole_answer_is_what_its_stream_comes_to(bodies: list[Body]) -> None:
    (choice,) = answer(streamed(UPSTREAM, bodies)).choices
    whole = answer(UPSTREAM.decode_response(json.dumps(response("completed", *OUTPUT)).encode()))
    assert whole.choices == (choice,) and whole.usage == DONE.usage
    assert (choice.text, choice.reasoning, choice.reason) == (
        "Let me see.",
        "Hm.\n\nWell.",
        "tool_calls",
    )
    assert choice.calls == (ToolCall("a", "add", '{"a":1}'), ToolCall("b", "add", "{}"))
    assert choice.signed == (
        SignedThought("Hm.\n\nWell.", "gAAA", "responses"),
        SignedThought("", "gBBB", "responses"),
    )


def test_a_thought_is_told_once_whether_whole_or_summed_up() -> None:
    """As servers of open models send both."""
    told = Told()
    told.opened(reasoning())
    told.delta("reasoning_text", "Hm. Well.", content_index=0)
    told.delta("reasoning_summary_text", "Hm.", summary_index=0)
    item = reasoning(summary="Hm.", content="Hm. Well.")
    told.closed(item)
    for events in (
        streamed(UPSTREAM, told.ended(item)),
        UPSTREAM.decode_response(json.dumps(response("completed", item)).encode()),
    ):
        assert answer(events).choices[0].reasoning == "Hm. Well."


def test_log_probabilities() -> None:
    tops = [
        {"token": "a", "logprob": -0.5, "bytes": [97]},
        {"token": "b", "logprob": -1.5, "bytes": [98]},
    ]
    token = {**tops[0], "top_logprobs": tops}
    a, b = TokenText("a", b"a", -0.5), TokenText("b", b"b", -1.5)
    body = response("completed", message("a", logprobs=[token]))
    (choice,) = answer(UPSTREAM.decode_response(json.dumps(body).encode())).choices
    assert choice.tokens == (TokenText("a", b"a", -0.5, (a, b)),)
    told = Told()
    told.opened(message() | {"status": "in_progress"})
    about = {"item_id": "i", "output_index": 0, "content_index": 0, "delta": "é"}
    told.event("response.output_text.delta", **about, logprobs=[{"token": "é", "logprob": -1.0}])
    (choice,) = answer(streamed(UPSTREAM, told.ended(message("é")))).choices
    assert choice.tokens == (TokenText("é", "é".encode(), -1.0),)


def test_citations_are_text_where_it_does_not_have_them() -> None:
    page = {"type": "url_citation", "url": "https://a.org", "title": "A", "start_index": 0}
    page |= {"end_index": 4}
    file = {"type": "file_citation", "file_id": "f", "filename": "a.pdf", "index": 3}
    plain = response("completed", message("Iron.", annotations=[page, page, file]))
    inside = response("completed", message("Iron (https://a.org).", annotations=[page]))
    texts = [
        answer(UPSTREAM.decode_response(json.dumps(body).encode())).choices[0].text
        for body in (plain, inside)
    ]
    assert texts == ["Iron. [A](https://a.org) [a.pdf]", "Iron (https://a.org)."]
    told = Told()
    told.opened(message() | {"status": "in_progress"})
    told.delta("output_text", "Iron.", content_index=0)
    about = {"item_id": "i", "output_index": 0, "content_index": 0}
    for at, each in enumerate((page, file)):
        kind = "response.output_text.annotation.added"
        told.event(kind, **about, annotation_index=at, annotation=each)
    item = message("Iron.", annotations=[page, file])
    told.closed(item)
    assert answer(streamed(UPSTREAM, told.ended(item))).choices[0].text == texts[0]


def test_a_refusal_is_text() -> None:
    item = message() | {"content": [part("refusal", refusal="No, thanks.")]}
    told = Told()
    told.opened(message() | {"status": "in_progress"})
    told.delta("refusal", "No,", content_index=0)
    told.delta("refusal", " thanks.", content_index=0)
    told.closed(item)
    for events in (
        streamed(UPSTREAM, told.ended(item)),
        UPSTREAM.decode_response(json.dumps(response("completed", item)).encode()),
    ):
        (choice,) = answer(events).choices
        assert (choice.text, choice.reason) == ("No, thanks.", "refusal")


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("max_output_tokens", "length"), ("content_filter", "refusal"), ("max_messages", "length")],
)
def test_an_answer_that_is_not_whole(reason: str, expected: str) -> None:
    body = response("incomplete", message("a"), incomplete_details={"reason": reason})
    *_, finish, done = UPSTREAM.decode_response(json.dumps(body).encode())
    assert (finish, done) == (Finish(0, expected), DONE)
    told = Told()
    told.lifecycle("incomplete", body)
    assert streamed(UPSTREAM, told.bodies)[1:] == [TextDelta(0, "a"), finish, done]


def test_a_sign_of_life_is_one_after_the_beginning() -> None:
    told = Told()
    told.lifecycle("in_progress", response("in_progress"))
    bodies = [*told.bodies, {"type": "keepalive", "sequence_number": 3}]
    assert streamed(UPSTREAM, bodies, whole=False)[1:] == [Heartbeat(), Heartbeat()]


def test_a_custom_call_is_one_of_a_function() -> None:
    """Nothing asks for these, but a server's own tools may be such."""
    item = {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": 'a "b"'}
    (choice,) = answer(
        UPSTREAM.decode_response(json.dumps(response("completed", item)).encode())
    ).choices
    assert choice.calls == (ToolCall("c", "patch", '{"input":"a \\"b\\""}'),)


def test_what_nobody_knows_is_passed_over() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "content": 5}
    bodies = [
        {"type": "response.news", "delta": 5, "response": 5},
        {"type": "response.output_item.added", "output_index": 0, "item": None},
        {"type": "response.output_item.added", "output_index": 1, "item": search},
        {"type": "response.output_item.done", "output_index": 1, "item": search},
        {"type": "response.output_text.delta", "output_index": 2, "delta": "a", "news": 5},
        {"type": "response.completed", "response": {"output": None, "usage": None, "news": 5}},
    ]
    events = streamed(UPSTREAM, bodies)
    assert told(events)[1:] == [TextDelta(0, "a"), Finish(0, "stop"), Done(Usage(0, 0))]


def test_places_in_a_stream_may_have_gaps() -> None:
    """As the official package says that some servers' have."""
    text = message("a")
    bodies = [
        {"type": "response.output_item.added", "output_index": 0, "item": None},
        {"type": "response.output_text.delta", "output_index": 1, "delta": "a"},
        {"type": "response.output_item.done", "output_index": 1, "item": text},
        {"type": "response.output_text.delta", "output_index": 3, "delta": "b"},
        {"type": "response.output_item.done", "output_index": 3, "item": message("b")},
        {"type": "response.completed", "response": response("completed", text, text, message("b"))},
    ]
    assert streamed(UPSTREAM, bodies)[1:-1] == [
        TextDelta(0, "a"),
        TextDelta(0, "b"),
        Finish(0, "stop"),
    ]


def test_a_stream_that_does_not_end_is_not_over() -> None:
    events = streamed(UPSTREAM, all_of_it()[:-1], whole=False)
    assert not any(isinstance(event, Finish | Done) for event in events)


def test_nothing_comes_after_the_end() -> None:
    decoder = UPSTREAM.stream()
    for body in all_of_it():
        decoder.decode(ServerEvent(json.dumps(body).encode()))
    assert decoder.over and not decoder.decode(ServerEvent(b"[DONE]"))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("rate_limit_exceeded", 429),
        ("server_error", 500),
        ("invalid_prompt", 400),
        ("context_length_exceeded", 400),
        ("of_another_year", 500),
    ],
)
def test_an_error_in_a_stream_is_raised(code: str, status: int) -> None:
    about = {"code": code, "message": "Why."}
    failed = response("failed") | {"error": about}
    for body in (
        {"type": "error", **about, "param": None, "sequence_number": 2},
        {"type": "error", "error": {**about, "type": "x", "param": None}, "sequence_number": 2},
        {"type": "response.failed", "response": failed, "sequence_number": 2},
    ):
        for before in ([], Told().bodies):
            with pytest.raises(Refusal) as caught:
                streamed(UPSTREAM, [*before, body])
            refusal = caught.value
            assert (refusal.status, refusal.code, refusal.message) == (status, code, "Why.")
    with pytest.raises(Refusal, match="Why"):
        UPSTREAM.decode_response(json.dumps(failed).encode())


@pytest.mark.parametrize(
    "data",
    [b"{", b"[]", b'{"type": "response.output_text.delta", "delta": 5}'],
)
def test_what_is_no_event_is_a_fault(data: bytes) -> None:
    with pytest.raises(ValueError):
        UPSTREAM.stream().decode(ServerEvent(data))


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"object": "response", "output": 5}']
)
def test_what_is_no_answer_is_a_fault(body: bytes) -> None:
    with pytest.raises(ValueError):
        UPSTREAM.decode_response(body)
