"""Chat completions: requests by hand and by the SDK's own types, answers read by the SDK."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

from bessemer.engine.request import Refusal
from bessemer.translate.chat import (
    Answer,
    AnswerChoice,
    AnswerStarted,
    ArgumentsDelta,
    Chat,
    Done,
    Event,
    Failure,
    Finish,
    GenerationOptions,
    Heartbeat,
    Identity,
    Message,
    Progress,
    PromptProgress,
    RankedToken,
    Reasoning,
    ReasoningDelta,
    TextDelta,
    TokenText,
    ToolCall,
    ToolCallBegun,
    Usage,
)
from bessemer.translate.decode import MAX_VALUES
from bessemer.translate.dialect import COMMENT
from bessemer.translate.openai_chat import Stream, decode_request, encode_response
from bessemer.translate.parts import Text, said

USER = {"role": "user", "content": "Hi"}
PLAIN = GenerationOptions()
WHO = Identity("chatcmpl-1", 1_700_000_000, "tiny")
TOKEN = TokenText("né", "né".encode(), -0.25, (TokenText("\ufffd", b"\xc3", -1.5),))
USAGE = Usage(prompt=10, completion=4, cached=8, reasoning=3)


def decoded(*messages: Any, **fields: Any) -> Chat:
    body = {"model": "m", "messages": list(messages) or [USER], **fields}
    return decode_request(json.dumps(body).encode())


def refused(*messages: Any, **fields: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decoded(*messages, **fields)
    assert caught.value.status == 400
    return caught.value


def test_a_conversation() -> None:
    chat = decoded(
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Hi", "name": "ann"},
        {"role": "assistant", "content": None, "reasoning_content": "Hm."},
        {"role": "assistant", "content": "Yes?", "reasoning": "Hm!", "tool_calls": []},
        {"role": "assistant", "content": "So.", "reasoning_content": "", "reasoning": ""},
        {"role": "system", "content": ""},
        user="u1",
    )
    assert chat.model == "m"
    assert chat.messages == (
        Message("system", said("Be brief.")),
        Message("user", said("Hi"), None, "ann"),
        Message("assistant", said(""), "Hm."),
        Message("assistant", said("Yes?"), "Hm!"),
        Message("assistant", said("So.")),
        Message("system", said("")),
    )


def test_parts_are_joined_by_lines() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]
    chat = decoded(
        {"role": "user", "content": parts},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
    )
    assert chat.messages[0].content == (Text("a"), Text("b"))
    assert [m.text for m in chat.messages] == ["a\nb", "no"]


def test_the_sdks_request_type() -> None:
    params: CompletionCreateParamsStreaming = {
        "model": "m",
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": "Hi", "name": "ann"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 9,
        "logit_bias": {"5": 1},
        "logprobs": True,
        "top_logprobs": 2,
        "n": 2,
        "stop": ["END"],
        "reasoning_effort": "low",
        "response_format": {"type": "text"},
        "tool_choice": "auto",
        "modalities": ["text"],
        "metadata": {"a": "b"},
        "service_tier": "auto",
        "store": False,
        "parallel_tool_calls": True,
    }
    chat = decode_request(json.dumps(params).encode())
    assert chat.options == GenerationOptions(
        max_tokens=9,
        logit_bias={5: 1.0},
        logprobs=2,
        n=2,
        stop=("END",),
        stream=True,
        include_usage=True,
    )
    assert chat.reasoning == Reasoning(True, "low")


@pytest.mark.parametrize(
    ("message", "field", "says"),
    [
        ({"role": "king", "content": "x"}, "messages[0].role", "'king'"),
        ({"role": "k" * 999, "content": "x"}, "messages[0].role", "kkk..."),
        ({"content": "x"}, "messages[0].role", "required"),
        ({"role": 5, "content": "x"}, "messages[0].role", "a string, not an integer"),
        ({"role": "user"}, "messages[0].content", "required"),
        ({"role": "user", "content": None}, "messages[0].content", "required"),
        ({"role": "user", "content": 5}, "messages[0].content", "a string or a list"),
        ({"role": "user", "content": ["x"]}, "messages[0].content[0]", "an object"),
        ({"role": "user", "content": [{"text": "x"}]}, "messages[0].content[0].type", "required"),
        (
            {"role": "user", "content": [{"type": "text"}]},
            "messages[0].content[0].text",
            "required",
        ),
        (
            {"role": "user", "content": [{"type": "smell", "text": "x"}]},
            "messages[0].content[0].type",
            "'smell'",
        ),
        ("Hi", "messages[0]", "an object, not a string"),
    ],
)
def test_flawed_messages(message: Any, field: str, says: str) -> None:
    error = refused(message)
    assert error.field == field
    assert says in error.message
    assert field in error.message


def test_flawed_requests() -> None:
    assert refused(messages=[]).message == "messages must not be empty."
    assert refused(messages=None).field == "messages"
    assert refused(model=5).field == "model"
    assert refused(chat_template_kwargs=[]).field == "chat_template_kwargs"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (
            {
                "role": "assistant",
                "tool_calls": [{"id": "c", "type": "custom", "function": {"name": "f"}}],
            },
            "messages[0].tool_calls[0].type",
        ),
        (
            {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "x"}}]},
            "messages[0].content[0].type",
        ),
    ],
)
def test_messages_not_built_yet(message: Any, field: str) -> None:
    error = refused(message)
    assert (error.code, error.field) == ("unsupported", field)


@pytest.mark.parametrize(
    ("fields", "template"),
    [
        ({}, {}),
        ({"chat_template_kwargs": {"enable_thinking": False, "x": [1]}}, None),
        (
            {"enable_thinking": False, "chat_template_kwargs": {"enable_thinking": True}},
            {"enable_thinking": True},
        ),
        ({"add_generation_prompt": False}, {"add_generation_prompt": False}),
        ({"continue_final_message": True, "add_generation_prompt": False}, {}),
    ],
)
def test_template_settings(fields: dict[str, Any], template: dict[str, Any] | None) -> None:
    oracle = fields["chat_template_kwargs"] if template is None else template
    assert decoded(**fields).template == oracle


@pytest.mark.parametrize("name", ["documents", "chat_template_kwargs"])
def test_fields_of_any_shape_hold_so_many_values(name: str) -> None:
    values = list(range(MAX_VALUES + 1))
    fields: Any = {"documents": [{"a": values}], "chat_template_kwargs": {"a": values}}
    assert f"at most {MAX_VALUES} values" in refused(**{name: fields[name]}).message


def test_continuing() -> None:
    assert decoded(continue_final_message=True).continue_final
    assert not decoded().continue_final
    error = refused(continue_final_message=True, add_generation_prompt=True)
    assert error.field == "add_generation_prompt"


def test_logprobs() -> None:
    assert decoded().options.logprobs is None
    assert decoded(logprobs=False).options.logprobs is None
    assert decoded(logprobs=True).options.logprobs == 0
    assert decoded(logprobs=True, top_logprobs=20).options.logprobs == 20
    assert refused(top_logprobs=3).message == "top_logprobs needs logprobs to be true."


def test_a_response_as_the_sdk_reads_it() -> None:
    choices = (
        AnswerChoice("Hello", "Hm.", "stop", None, (TOKEN,)),
        AnswerChoice("Hey", "", "length"),
    )
    body = encode_response(Answer(choices, USAGE), WHO)
    read = ChatCompletion.model_validate_json(body, strict=True)
    assert (read.id, read.created, read.model) == ("chatcmpl-1", 1_700_000_000, "tiny")
    first, second = read.choices
    assert (first.index, first.finish_reason, second.finish_reason) == (0, "stop", "length")
    assert first.message.content == "Hello"
    assert first.message.model_extra == {"reasoning_content": "Hm.", "reasoning": "Hm."}
    assert second.message.model_extra == {}
    assert second.logprobs is None
    assert first.logprobs and first.logprobs.content
    entry = first.logprobs.content[0]
    assert (entry.token, entry.logprob, entry.bytes) == ("né", -0.25, [110, 195, 169])
    assert entry.top_logprobs[0].bytes == [195]
    assert read.usage and read.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }


def test_a_response_as_json() -> None:
    body = encode_response(Answer((AnswerChoice("Hi", "", "stop"),), Usage(1, 2)), WHO)
    assert msgspec.json.decode(body) == {
        "object": "chat.completion",
        "id": "chatcmpl-1",
        "created": 1_700_000_000,
        "model": "tiny",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 1,
            "completion_tokens": 2,
            "total_tokens": 3,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def sent(events: Iterable[Event], options: GenerationOptions = PLAIN) -> list[bytes]:
    stream = Stream(WHO, options)
    out = [e for event in events for e in stream.encode(event)]
    assert all(e.name is None and b"\n" not in e.data for e in out)
    return [e.data for e in out]


def chunks(data: list[bytes]) -> list[ChatCompletionChunk]:
    return [ChatCompletionChunk.model_validate_json(d, strict=True) for d in data]


ANSWER: list[Event] = [
    AnswerStarted(Usage(10, 0, 8)),
    ReasoningDelta(0, "Hm.", (TOKEN,)),
    TextDelta(0, 'He"\n'),
    TextDelta(0, "llo", (TOKEN,)),
    Finish(0, "stop"),
    Done(USAGE),
]


def test_a_stream_as_the_sdk_reads_it() -> None:
    *data, last = sent(ANSWER)
    assert last == b"[DONE]"
    read = chunks(data)
    assert {(c.id, c.created, c.model) for c in read} == {("chatcmpl-1", 1_700_000_000, "tiny")}
    assert {c.object for c in read} == {"chat.completion.chunk"}
    deltas = [c.choices[0].delta.model_dump(exclude_unset=True) for c in read]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Hm.", "reasoning": "Hm."},
        {"content": 'He"\n'},
        {"content": "llo"},
        {},
    ]
    assert [c.choices[0].finish_reason for c in read] == [None] * 4 + ["stop"]
    assert [c.choices[0].logprobs is not None for c in read] == [False, True, False, True, False]
    logprobs = read[3].choices[0].logprobs
    assert logprobs and logprobs.content and logprobs.content[0].token == "né"
    assert all(b"usage" not in d for d in data)


def test_calls_as_the_sdk_reads_them() -> None:
    events: list[Event] = [
        ToolCallBegun(0, 0, "call_1", "f"),
        ArgumentsDelta(0, 0, '{"a"'),
        ArgumentsDelta(0, 0, ":1}"),
        ToolCallBegun(0, 1, "call_2", "g"),
        Finish(0, "tool_calls"),
    ]
    read = chunks(sent(events))
    assert [c.choices[0].delta.model_dump(exclude_unset=True) for c in read[:4]] == [
        {"tool_calls": [call]}
        for call in (
            {
                "index": 0,
                "id": "call_1",
                "type": "function",
                "function": {"name": "f", "arguments": ""},
            },
            {"index": 0, "function": {"arguments": '{"a"'}},
            {"index": 0, "function": {"arguments": ":1}"}},
            {
                "index": 1,
                "id": "call_2",
                "type": "function",
                "function": {"name": "g", "arguments": ""},
            },
        )
    ]
    assert read[4].choices[0].finish_reason == "tool_calls"
    calls = (ToolCall("call_1", "f", '{"a":1}'), ToolCall("call_2", "g", "{}"))
    answer = Answer((AnswerChoice("", "", "tool_calls", calls=calls),), Usage(1, 2))
    completion = ChatCompletion.model_validate_json(encode_response(answer, WHO), strict=True)
    shown = completion.choices[0].message.model_dump(exclude_unset=True)["tool_calls"]
    assert [
        (c["id"], c["type"], c["function"]["name"], c["function"]["arguments"]) for c in shown
    ] == [
        ("call_1", "function", "f", '{"a":1}'),
        ("call_2", "function", "g", "{}"),
    ]


def test_usage_where_it_is_asked_for() -> None:
    *data, usage, last = sent(ANSWER, GenerationOptions(include_usage=True))
    assert all(b'"usage":null' in d for d in data)
    read = chunks([usage])[0]
    assert read.choices == []
    assert read.usage and (read.usage.prompt_tokens, read.usage.total_tokens) == (10, 14)
    assert read.usage.prompt_tokens_details and read.usage.prompt_tokens_details.cached_tokens == 8
    assert last == b"[DONE]"


def test_each_choice_is_opened_and_finished() -> None:
    events: list[Event] = [
        AnswerStarted(Usage(1, 0), 2),
        TextDelta(1, "b"),
        TextDelta(0, "a"),
        Finish(1, "length"),
    ]
    read = chunks(sent(events, GenerationOptions(n=2)))
    assert [(c.choices[0].index, c.choices[0].delta.content) for c in read] == [
        (0, ""),
        (1, ""),
        (1, "b"),
        (0, "a"),
        (1, None),
    ]


def test_a_heartbeat_is_an_empty_delta_of_an_open_choice() -> None:
    stream = Stream(WHO, GenerationOptions(n=3))
    before: list[tuple[Event, int]] = [
        (Progress(Usage(1, 0)), 0),
        (AnswerStarted(Usage(1, 0), 3), 0),
        (Finish(1, "stop"), 0),
        (Finish(0, "stop"), 2),
    ]
    for event_before, open_ in before:
        stream.encode(event_before)
        (event,) = stream.encode(Heartbeat())
        (choice,) = chunks([event.data])[0].choices
        assert (choice.index, choice.delta.content) == (open_, "")
    stream.encode(Finish(2, "stop"))
    assert stream.encode(Heartbeat()) == (COMMENT,)


def test_a_choices_first_delta_says_its_role_whatever_it_is() -> None:
    early: list[list[Event]] = [[], [Heartbeat(), Heartbeat()], [PromptProgress(0, 9, 0, 4, 0.1)]]
    for events in early:
        data = sent([*events, AnswerStarted(Usage(1, 0), 2), Heartbeat()])
        roles = [(c.index, c.delta.role) for chunk in chunks(data) for c in chunk.choices]
        assert sorted(pair for pair in roles if pair[1]) == [(0, "assistant"), (1, "assistant")]
        assert roles[0] == (0, "assistant")


def test_a_fingerprint_is_in_answers_and_in_all_of_their_pieces() -> None:
    who = Identity("chatcmpl-1", 7, "tiny", "bessemer-1-ab")
    answer = Answer((AnswerChoice("Hi", "", "stop"),), USAGE)
    stream = Stream(who, GenerationOptions(include_usage=True))
    pieces = [each.data for event in ANSWER for each in stream.encode(event)][:-1]
    for body in (encode_response(answer, who), *pieces):
        assert msgspec.json.decode(body)["system_fingerprint"] == "bessemer-1-ab"
    assert b"fingerprint" not in encode_response(answer, WHO)


def test_a_failure_ends_the_stream_without_done() -> None:
    data = sent([AnswerStarted(Usage(1, 0)), Failure(Refusal(504, "timeout", "Too slow."))])
    assert msgspec.json.decode(data[-1]) == {
        "error": {"message": "Too slow.", "type": "timeout_error", "param": None, "code": "timeout"}
    }


def test_every_piece_may_have_the_usage_so_far() -> None:
    events: list[Event] = [
        AnswerStarted(Usage(10, 0), 2),
        Progress(Usage(10, 1)),
        TextDelta(0, "a"),
        Progress(Usage(10, 3)),
        TextDelta(1, "b"),
        Done(USAGE),
    ]
    options = GenerationOptions(n=2, include_usage=True, continuous_usage=True)
    *data, _ = sent(events, options)
    counts = [c.usage and c.usage.completion_tokens for c in chunks(data)]
    assert counts == [0, 0, 1, 3, 4]


def test_documents_are_the_templates() -> None:
    documents = [{"title": "a", "text": "b"}]
    assert decoded(documents=documents).template == {"documents": documents}


def test_prompt_logprobs_as_vllm_shows_them() -> None:
    prompt = ((), (RankedToken(7, "a", float("-inf"), None), RankedToken(9, "b", -0.5, 1)))
    answer = Answer((AnswerChoice("x", "", "stop", prompt=prompt),) * 2, USAGE)
    body = encode_response(answer, WHO)
    ChatCompletion.model_validate_json(body, strict=True)
    assert msgspec.json.decode(body)["prompt_logprobs"] == [
        None,
        {
            "7": {"logprob": -9999.0, "rank": None, "decoded_token": "a"},
            "9": {"logprob": -0.5, "rank": 1, "decoded_token": "b"},
        },
    ]
    plain = encode_response(Answer((AnswerChoice("x", "", "stop"),), USAGE), WHO)
    assert "prompt_logprobs" not in msgspec.json.decode(plain)


def test_what_cannot_happen_has_a_finite_logprob() -> None:
    never = TokenText("x", b"x", float("-inf"))
    read = chunks(sent([TextDelta(0, "x", (never,))]))[0]
    assert read.choices[0].logprobs and read.choices[0].logprobs.content
    assert read.choices[0].logprobs.content[0].logprob == -9999.0
