"""Thoughts that other servers signed, in the dialects of clients and back."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from bessemer.translate import anthropic, openai_chat
from bessemer.translate.anthropic_request import decode_request
from bessemer.translate.chat import (
    AnswerStarted,
    Done,
    Event,
    Finish,
    GenerationOptions,
    Message,
    ReasoningDelta,
    TextDelta,
    ThoughtSigned,
    Usage,
)
from bessemer.translate.dialect import ServerEvent
from bessemer.translate.openai_responses_items import turns_of
from bessemer.translate.openai_responses_request import ITEM
from bessemer.translate.origin import brought, carried, known
from bessemer.translate.output import Collector
from bessemer.translate.parts import SignedThought
from tests.translate.responses_stream import checked
from tests.translate.test_anthropic import WHO, legal, sent
from tests.translate.test_openai_responses import streamed, whole

A, B, C = "EqQBCgIYAh" * 4, "EqQCCgIYAh" * 4, "EqQDCgIYAh" * 4
END = (TextDelta(0, "So."), Finish(0, "stop"), Done(Usage(3, 4)))
ANTHROPIC: tuple[Event, ...] = (
    AnswerStarted(Usage(3, 0)),
    ReasoningDelta(0, "H"),
    ReasoningDelta(0, "m."),
    ThoughtSigned(0, A, origin="anthropic"),
    ThoughtSigned(0, "Eblob", redacted=True, origin="anthropic"),
    ReasoningDelta(0, "Well."),
    ThoughtSigned(0, B, origin="anthropic"),
    ThoughtSigned(0, C, origin="anthropic"),
    *END,
)
RESPONSES: tuple[Event, ...] = (
    AnswerStarted(Usage(3, 0)),
    ReasoningDelta(0, "Hm."),
    ThoughtSigned(0, "gAAA", origin="responses"),
    ThoughtSigned(0, "gBBB", redacted=True, origin="responses"),
    *END,
)
SIGNED = {
    ANTHROPIC: (
        SignedThought("Hm.", A, "anthropic"),
        SignedThought("", "Eblob", "anthropic"),
        SignedThought("Well.", B, "anthropic"),
        SignedThought("", C, "anthropic", omitted=True),
    ),
    RESPONSES: (
        SignedThought("Hm.", "gAAA", "responses"),
        SignedThought("", "gBBB", "responses"),
    ),
}


def collected(events: Sequence[Event]) -> Collector:
    collector = Collector(1)
    for event in events:
        collector.add(event)
    return collector


def claude(content: list[dict[str, Any]]) -> Message:
    """Return what a client of Anthropic's API brings back."""
    ask = {"role": "user", "content": "Hi"}
    messages = [ask, {"role": "assistant", "content": content}, ask]
    body = {"model": "m", "max_tokens": 9, "messages": messages}
    return decode_request(json.dumps(body).encode()).messages[1]


def codex(output: list[dict[str, Any]]) -> Message:
    """Return what a client of OpenAI's Responses brings back."""
    (message,) = turns_of([ITEM.decode(json.dumps(item)) for item in output], "input")
    return message


def blocks(bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join a stream of Anthropic's into its blocks."""
    out: list[dict[str, Any]] = []
    for body in bodies:
        if body["type"] == "content_block_start":
            out.append(body["content_block"])
        elif body["type"] == "content_block_delta":
            for key, value in body["delta"].items():
                if key != "type":
                    out[-1][key] = out[-1].get(key, "") + value
    return out


@pytest.mark.parametrize("events", [ANTHROPIC, RESPONSES])
def test_they_come_back_as_they_were_made(events: tuple[Event, ...]) -> None:
    answer = collected(events).answer()
    assert answer.choices[0].signed == SIGNED[events]
    body = json.loads(anthropic.encode_response(answer, WHO))
    bodies = sent(events)
    legal(bodies)
    assert blocks(bodies) == body["content"]
    output = checked(streamed(events))["output"]
    for message in (
        claude(body["content"]),
        codex(output),
        codex(whole(events)["output"]),
        codex(whole(events, reasoning={"summary": "auto"})["output"]),
    ):
        assert message.signed == SIGNED[events]
        thoughts = [thought.text for thought in SIGNED[events] if thought.text]
        assert (message.reasoning or "").split("\n") == thoughts and message.text == "So."


def chat_client(stream: Sequence[ServerEvent]) -> Message:
    """Return what a client of chat completions brings back of a stream."""
    chunks = [json.loads(event.data) for event in stream if not event.mark]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    answered = {
        "role": "assistant",
        "content": "".join(delta.get("content") or "" for delta in deltas),
        "reasoning_details": [d for delta in deltas for d in delta.get("reasoning_details", [])],
    }
    ask = {"role": "user", "content": "Hi"}
    body = {"model": "m", "messages": [ask, answered, ask]}
    return openai_chat.decode_request(json.dumps(body).encode()).messages[1]


@pytest.mark.parametrize("events", [ANTHROPIC, RESPONSES])
def test_a_stream_of_chunks_has_the_text_that_was_signed(events: tuple[Event, ...]) -> None:
    stream = openai_chat.Stream(WHO, GenerationOptions())
    chunks = [chunk for event in events for chunk in stream.encode(event)]
    assert chat_client(chunks).signed == SIGNED[events]


def test_a_dialect_s_own_are_as_they_are_and_another_s_say_whose() -> None:
    theirs = SignedThought("Hm.", A, "anthropic")
    assert carried(theirs, "anthropic") == A
    assert carried(theirs, "responses") == f"anthropic:{A}"
    assert carried(SignedThought("Hm.", "x"), "responses") == "x"
    assert brought("Hm.", f"anthropic:{A}", "responses") == theirs
    assert brought("Hm.", "nobody:x", "responses") == SignedThought("Hm.", "nobody:x", "responses")


def test_a_server_is_given_its_own_and_those_of_nobody_knows_whom() -> None:
    thoughts = SignedThought("a", "1", "anthropic"), SignedThought("b", "2"), *SIGNED[RESPONSES]
    assert known(thoughts, "anthropic") == thoughts[:2]


def test_what_nobody_signed_is_signed_as_ours_is() -> None:
    events = *ANTHROPIC[:4], ReasoningDelta(0, "Ours."), *END
    body = json.loads(anthropic.encode_response(collected(events).answer(), WHO))
    assert [block.get("thinking") for block in body["content"]] == ["Hm.", "Ours.", None]
    assert blocks(sent(events)) == body["content"]
    assert claude(body["content"]).signed == SIGNED[ANTHROPIC][:1]
