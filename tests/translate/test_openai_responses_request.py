"""Requests for responses: every field is honoured, refused by name, or on a list."""

import json
from pathlib import Path
from typing import Any

import pytest

from bessemer.engine.request import Refusal
from bessemer.translate.chat import Message, Reasoning, ResponseFormat
from bessemer.translate.fields import GENERATION, IGNORED, RESPONSES
from bessemer.translate.openai_responses_request import (
    DECODER,
    DecodedRequest,
    decode_request,
    stored_items,
)
from bessemer.translate.parts import said
from bessemer.translate.sampling import INT32
from tests.translate.test_fields import SAMPLING, body, listed

HTTP = Path(__file__).parents[2] / "http" / "README.md"
BASE: dict[str, Any] = {"model": "m", "input": "Hi"}
ADD = {"type": "function", "name": "add"}
SCHEMA = {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True}

# What the official package can send, and what else clients do, each asking for something.
SENT: dict[str, Any] = SAMPLING | {
    "input": [{"role": "user", "content": "else"}],
    "instructions": "Be brief.",
    "previous_response_id": "resp_1",
    "max_output_tokens": 20,
    "max_tool_calls": 2,
    "tools": [ADD],
    "tool_choice": "none",
    "parallel_tool_calls": False,
    "functions": [{"name": "f"}],
    "function_call": {"name": "f"},
    "text.format": SCHEMA,
    "text.verbosity": "low",
    "reasoning": {"effort": "low"},
    "reasoning.summary": "auto",
    "reasoning.generate_summary": "auto",
    "reasoning.mode": "pro",
    "reasoning.context": "auto",
    "include": ["message.output_text.logprobs"],
    "top_logprobs": 3,
    "truncation": "auto",
    "store": False,
    "background": True,
    "stream_options": {"include_obfuscation": True},
    "stream_options.include_obfuscation": True,
    "metadata": {"a": "b"},
    "user": "u",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"mode": "implicit"},
    "service_tier": "flex",
    "client_metadata": {"a": "b"},
    "context_management": [{"type": "compaction"}],
    "conversation": "conv_1",
    "prompt": {"id": "pmpt_1"},
    "moderation": {"model": "x"},
    "access_programs": {"cyber": "standard"},
    "image": {"context_compression": "auto"},
    "messages": [{"role": "user", "content": "Hi"}],
    "parse_special": True,
    "add_special_tokens": True,
    "enable_thinking": True,
}
WITH: dict[str, dict[str, Any]] = {
    "tool_choice": {"tools": [ADD]},
    "parallel_tool_calls": {"tools": [ADD]},
}
# What an answer repeats (test_openai_responses.py), and what concerns it, or its being kept.
OF_THE_ANSWER = {
    *("user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key"),
    *("store", "background", "previous_response_id"),
    *("reasoning.summary", "reasoning.generate_summary"),
    *("stream_options", "stream_options.include_obfuscation"),
}


def decoded(**fields: Any) -> DecodedRequest:
    return decode_request(json.dumps(BASE | fields).encode())


@pytest.mark.parametrize("name", SENT)
def test_a_field_is_honoured_or_refused_by_name_or_on_the_list(name: str) -> None:
    base = BASE | WITH.get(name, {})
    plain = decoded(**base)
    whole = name.partition(".")[0]
    try:
        changed = decode_request(json.dumps(body(base, name, SENT[name])).encode())
    except Refusal as refusal:
        assert (refusal.status, refusal.code) == (400, "unsupported")
        assert refusal.field in (name, whole) and refusal.field in DECODER.unbuilt
        return
    if name in OF_THE_ANSWER:
        assert whole in DECODER.honoured and changed.fields != plain.fields
    else:
        does = changed.chat() != plain.chat()
        assert does != (name in IGNORED), "honoured" if does else "ignored, and not on the list"


def test_a_field_has_one_meaning_and_the_readme_has_the_list() -> None:
    assert DECODER.unbuilt.keys() == RESPONSES.keys() - DECODER.honoured
    own = {n: r for n, r in RESPONSES.items() if GENERATION.get(n) != r}
    for row in listed(own, DECODER.honoured):
        assert row in HTTP.read_text(), row


def test_null_and_what_asks_for_nothing_are_let_through() -> None:
    plain = decoded()
    nothing: dict[str, Any] = dict.fromkeys(DECODER.honoured - {"model", "input", "metadata"})
    assert decoded(**nothing, metadata=None).chat() == plain.chat()
    neutral = {"n": 1, "functions": [], "logprobs": False}
    assert decoded(**neutral).chat() == plain.chat()


def test_instructions_stand_before_everything() -> None:
    items = [{"role": "developer", "content": "b"}, {"role": "user", "content": "c"}]
    turns = decoded(instructions="a", input=items).chat().messages
    assert turns == (
        Message("system", said("a")),
        Message("system", said("b")),
        Message("user", said("c")),
    )
    assert decoded().chat().messages == (Message("user", said("Hi")),)


def test_it_is_streamed_where_that_is_asked_for() -> None:
    asked = {stream: decoded(stream=stream) for stream in (True, False, None)}
    assert [each.stream for each in asked.values()] == [True, False, False]
    assert [each.chat().options.stream for each in asked.values()] == [True, False, False]


def test_lengths_and_logprobs() -> None:
    assert decoded(max_output_tokens=7).chat().options.max_tokens == 7
    assert decoded(max_tokens=7).chat().options.max_tokens == 7
    assert decoded(n_predict=-1).chat().options.max_tokens == INT32
    options = decoded(include=["message.output_text.logprobs"], stream=True).chat().options
    assert (options.logprobs, options.stream) == (0, False)  # the whole answer is kept
    assert decoded(top_logprobs=4).chat().options.logprobs == 4
    assert decoded(stream=True).chat().options.stream
    assert decoded().chat().options.logprobs is None


def test_what_is_done_with_too_long_a_prompt() -> None:
    def overflow(**fields: Any) -> str | None:
        return decoded(**fields).chat().options.overflow

    assert overflow() is None and overflow(truncation="auto") == "truncate"
    assert overflow(truncation="disabled") == "error"
    assert overflow(truncation="auto", context_overflow="summarize") == "summarize"


def test_how_much_to_think_is_told_to_the_template() -> None:
    assert decoded(reasoning={"effort": "none"}).chat().reasoning == Reasoning(False, "none")
    assert decoded(reasoning={"effort": "high"}).chat().reasoning == Reasoning(True, "high")
    assert decoded(reasoning={"max_tokens": 9}).chat().reasoning == Reasoning(True, None, 9)
    with pytest.raises(Refusal, match=r"reasoning\.effort must be one of none, minimal"):
        decoded(reasoning={"effort": "lots"}).chat()
    exact = {"reasoning": {"effort": "high"}, "chat_template_kwargs": {"reasoning_effort": "low"}}
    assert decoded(**exact).chat().template == {"reasoning_effort": "low"}
    assert not decoded().summarizes and decoded(reasoning={"summary": "auto"}).summarizes


def test_the_form_of_a_text() -> None:
    def form(**text: Any) -> ResponseFormat | None:
        return decoded(text={"format": text}).chat().response_format

    assert form(type="text") is None and decoded(text={}).chat().response_format is None
    assert form(type="json_object") == ResponseFormat("json_object", "", field="text.format")
    schema = form(**SCHEMA)
    assert schema is not None and json.loads(schema.definition) == SCHEMA["schema"]
    assert (schema.kind, schema.strict, schema.field) == ("json_schema", True, "text.format")
    loose = form(type="json_schema", name="x", schema={})
    assert loose is not None and not loose.strict
    regex = decoded(regex="a+").chat().response_format
    assert regex is not None and regex.kind == "regex"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"include": ["everything"]}, "include[0]"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": 5}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"text": {"format": SCHEMA}, "regex": "a"}, "regex"),
        ({"text": {"verbosity": "huge"}}, "text.verbosity"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": -1}, "max_output_tokens"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"temperature": -1}, "temperature"),
        ({"truncation": "some"}, "truncation"),
        ({"metadata": {"a" * 65: "b"}}, "metadata"),
        ({"metadata": {str(n): "b" for n in range(17)}}, "metadata"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].id"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"reasoning": {"summary": "all"}}, "reasoning.summary"),
        ({"chat_template_kwargs": {"x": [0] * 10001}}, "chat_template_kwargs"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Refusal) as caught:
        decoded(**fields).resolved([], {}).chat()
    assert caught.value.field == field or (caught.value.field or "").startswith("metadata")
    assert caught.value.status in (400, 404)


def test_a_request_goes_on_from_what_is_stored() -> None:
    before = [
        (b'{"type":"message","role":"user","content":"one"}'),
        b'{"type":"message","role":"assistant","content":[{"type":"output_text","text":"two"}]}',
    ]
    asked = decoded(previous_response_id="resp_1", input="three", instructions="s")
    turns = asked.resolved(before, {}).chat().messages
    assert [turn.text for turn in turns] == ["s", "one", "two", "three"]
    alone = decoded(previous_response_id="resp_1", input=None).resolved(before, {})
    assert [turn.text for turn in alone.chat().messages] == ["one", "two"]


def test_a_reference_is_the_item_that_it_names() -> None:
    for reference in ({"type": "item_reference", "id": "msg_1"}, {"id": "msg_1"}):
        asked = decoded(input=[reference, {"role": "user", "content": "b"}])
        assert asked.references == ("msg_1",)
        found = {"msg_1": b'{"type":"message","id":"msg_1","role":"assistant","content":"a"}'}
        resolved = asked.resolved([], found)
        assert [turn.text for turn in resolved.chat().messages] == ["a", "b"]
        assert stored_items(resolved)[0][0] == "msg_1"


def test_items_are_stored_with_their_ids() -> None:
    asked = decoded(
        input=[{"role": "user", "content": "Hi", "id": "msg_own"}, {"role": "user", "content": "x"}]
    )
    (first, _), (second, stored) = stored_items(asked)
    assert first == "msg_own" and second.startswith("msg_")
    assert json.loads(stored) == {
        "type": "message",
        "id": second,
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_text", "text": "x"}],
    }
