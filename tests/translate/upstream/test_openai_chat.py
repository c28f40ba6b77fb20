"""Conversations as chat completions are asked for them, by the official package's types."""

from typing import Any

import pytest
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)
from pydantic import TypeAdapter

from bessemer.engine.request import Refusal
from bessemer.translate.chat import (
    Chat,
    GenerationOptions,
    Message,
    Reasoning,
    ResponseFormat,
    Tool,
    ToolCall,
    ToolChoice,
)
from bessemer.translate.parts import Audio, Document, Image, SignedThought, Text, said
from bessemer.translate.upstream.openai_chat import UPSTREAM
from tests.translate.upstream.sent import sent

WHOLE: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsNonStreaming)
STREAMED: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsStreaming)
ASK = Message("user", said("Hi"))
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOLS = Tool("add", "Adds.", SCHEMA, strict=True), Tool("clock")
PNG = Image(media_type="image/png", data=b"\x89PN", detail="low", field="here")
PDF = Document(media_type="application/pdf", data=b"%PDF", title="A.pdf", field="here")


def asked(*messages: Message, model: str = "gpt-5.6", **about: Any) -> dict[str, Any]:
    lossy = about.pop("lossy", False)
    return sent(UPSTREAM, Chat(model, messages or (ASK,), **about), WHOLE, lossy)


def refused(*messages: Message, **about: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        asked(*messages, **about)
    assert (caught.value.status, caught.value.code) == (400, "unsupported")
    assert "OpenAI" in caught.value.message
    return caught.value


def test_a_conversation_with_calls() -> None:
    options = GenerationOptions(
        90, temperature=0.5, top_p=0.9, logprobs=2, stop=("a", "b"), seed=7, n=2, stream=True,
        logit_bias={5: -1.0}, presence_penalty=0.5,
    )  # fmt: skip
    messages = (
        Message("system", said("Be brief.")),
        ASK,
        Message("assistant", said("Let me see."), calls=(ToolCall("a", "add", '{"a": 1}'),)),
        Message("tool", said("4"), result_of="a"),
        Message("user", (Text("And"), Text("?")), name="bob"),
    )
    chat = Chat("gpt-5.6", messages, options, tools=TOOLS)
    call = {"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    about = {"name": "add", "description": "Adds.", "parameters": SCHEMA, "strict": True}
    assert sent(UPSTREAM, chat, STREAMED) == {
        "model": "gpt-5.6",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Let me see.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "a", "content": "4"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "And"}, {"type": "text", "text": "?"}],
                "name": "bob",
            },
        ],
        "max_completion_tokens": 90,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "n": 2,
        "stop": ["a", "b"],
        "logprobs": True,
        "top_logprobs": 2,
        "logit_bias": {"5": -1.0},
        "presence_penalty": 0.5,
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [
            {"type": "function", "function": about},
            {"type": "function", "function": {"name": "clock"}},
        ],
    }


def test_what_nobody_asked_for_is_not_said() -> None:
    assert asked() == {"model": "gpt-5.6", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o", "max_completion_tokens"),
        ("openai/o3-mini", "max_completion_tokens"),
        ("openai/gpt-oss-20b", "max_tokens"),
        ("qwen3", "max_tokens"),
    ],
)
def test_only_openai_s_own_models_know_the_newer_name_of_the_limit(model: str, name: str) -> None:
    assert asked(model=model, options=GenerationOptions(9))[name] == 9


def test_images_files_and_sounds() -> None:
    wav = Audio(media_type="audio/wav", data=b"RIFF", field="here")
    link = Image(media_type="", url="https://a/b.png")
    kept = Document(media_type="", file_id="file-1")
    (message,) = asked(Message("user", (Text("See"), PNG, link, PDF, kept, wav)))["messages"]
    assert message["content"] == [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
        {
            "type": "file",
            "file": {"filename": "A.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
        },
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
    ]


@pytest.mark.parametrize(
    ("part", "what"),
    [
        (Image(media_type="", file_id="f", field="here"), "images by the ids of files"),
        (Document(media_type="", url="https://a", field="here"), "files by their addresses"),
        (Audio(media_type="audio/ogg", data=b"O", field="here"), "audio input but for wav and mp3"),
    ],
)
def test_parts_that_it_has_no_place_for(part: Any, what: str) -> None:
    refusal = refused(Message("user", (part,)))
    assert refusal.field == "here" and what in refusal.message
    assert asked(Message("user", (Text("a"), part)), lossy=True)["messages"][0]["content"] == "a"


def test_results_are_texts_and_their_images_the_next_turn() -> None:
    calls = ToolCall("a", "see", "{}"), ToolCall("b", "add", "{}")
    messages = asked(
        Message("assistant", calls=calls),
        Message("tool", (Text("A cat."), PNG), result_of="a"),
        Message("tool", said("No."), result_of="b", failed=True),
        ASK,
    )["messages"]
    assert messages[0]["content"] is None
    first, second, shown, ask = messages[1:]
    assert first == {"role": "tool", "tool_call_id": "a", "content": "A cat."}
    assert second["tool_call_id"] == "b" and "No." in second["content"]
    assert second["content"] != "No."  # that it failed is said
    assert shown["role"] == "user" and [each["type"] for each in shown["content"]] == [
        "text", "image_url"
    ]  # fmt: skip
    assert "call a" in shown["content"][0]["text"] and ask["content"] == "Hi"


def test_calls_without_ids_are_given_some() -> None:
    messages = asked(
        Message("assistant", calls=(ToolCall("", "a", "{}"), ToolCall("", "b", ""))),
        Message("tool", said("B"), name="b"),
        Message("tool", said("A"), name="a"),
    )["messages"]
    ids = [each["id"] for each in messages[0]["tool_calls"]]
    assert len({*ids}) == 2 and [each["tool_call_id"] for each in messages[1:]] == ids[::-1]
    assert messages[0]["tool_calls"][1]["function"]["arguments"] == "{}"


def test_thoughts_go_back_to_whoever_signed_them() -> None:
    own = SignedThought("Hm.", "sig", "openai"), SignedThought("", "data", "openai")
    omitted = SignedThought("", "all", "openai", True)
    others = SignedThought("No.", "other", "anthropic")
    turn = Message("assistant", said("A"), reasoning="Hm.\nNo.", signed=(*own, omitted, others))
    (message,) = asked(turn)["messages"]
    assert message["reasoning_details"] == [
        {"type": "reasoning.text", "text": "Hm.", "signature": "sig"},
        {"type": "reasoning.encrypted", "data": "data"},
        {"type": "reasoning.text", "text": "", "signature": "all"},
    ]
    assert asked(Message("assistant", said("A"), "Hm."))["messages"] == [
        {"role": "assistant", "content": "A"}
    ]


@pytest.mark.parametrize(("model", "marked"), [("anthropic/claude-5", True), ("gpt-5.6", False)])
def test_cache_marks_go_on_where_they_are_passed_on(model: str, marked: bool) -> None:
    turn = Message("user", (Text("a", kept="5m"), Text("b", kept="1h")))
    (message,) = asked(turn, model=model)["messages"]
    marks = [each.get("cache_control") for each in message["content"]]
    ephemeral = {"type": "ephemeral"}
    assert marks == ([ephemeral, {**ephemeral, "ttl": "1h"}] if marked else [None, None])


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (ToolChoice(), None),
        (ToolChoice("none"), "none"),
        (ToolChoice("required"), "required"),
        (ToolChoice("required", ("add",)), named("add")),
        (
            ToolChoice("auto", ("add",)),
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [named("add")]},
            },
        ),
        (ToolChoice("required", ("add", "clock")), "required"),
    ],
)
def test_the_choice_of_tools(choice: ToolChoice, told: Any) -> None:
    body = asked(tools=TOOLS, tool_choice=choice)
    assert body.get("tool_choice") == told and "parallel_tool_calls" not in body
    assert (
        asked(tools=TOOLS, tool_choice=ToolChoice(parallel=False))["parallel_tool_calls"] is False
    )
    assert "tools" not in asked(tool_choice=choice) and "tool_choice" not in asked(
        tool_choice=choice
    )


def test_formats_of_answers() -> None:
    schema = ResponseFormat("json_schema", '{"type":"object"}', strict=False)
    assert asked(response_format=schema)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": False},
    }
    anything = asked(response_format=ResponseFormat("json_object", ""))
    assert anything["response_format"] == {"type": "json_object"}
    refusal = refused(response_format=ResponseFormat("regex", "a+", field="guided_regex"))
    assert refusal.field == "guided_regex"
    lossy = asked(response_format=ResponseFormat("regex", "a+"), lossy=True)
    assert "response_format" not in lossy


@pytest.mark.parametrize(
    ("model", "reasoning", "effort"),
    [
        ("gpt-5.6", Reasoning(), None),
        ("gpt-5.6", Reasoning(effort="high"), "high"),
        ("gpt-5.6", Reasoning(enabled=True), None),
        ("gpt-5.6", Reasoning(True, None, 500), "medium"),
        ("gpt-5.6", Reasoning(enabled=False), "none"),
        ("qwen3", Reasoning(budget=0), "none"),
        ("gpt-5-mini", Reasoning(effort="none"), "minimal"),
        ("openai/o4-mini", Reasoning(enabled=False), "low"),
        ("gpt-4o", Reasoning(enabled=False), None),
        ("gpt-4.1", Reasoning(effort="high"), None),
    ],
)
def test_how_much_a_model_is_to_think(model: str, reasoning: Reasoning, effort: str | None) -> None:
    options = GenerationOptions(1000)
    assert (
        asked(model=model, reasoning=reasoning, options=options).get("reasoning_effort") == effort
    )


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (GenerationOptions(min_tokens=3), "min_tokens"),
        (GenerationOptions(ignore_eos=True), "ignore_eos"),
        (GenerationOptions(stop_token_ids=(5,)), "stop_token_ids"),
        (GenerationOptions(include_stop=True), "include_stop_str_in_output"),
        (GenerationOptions(prompt_logprobs=1), "prompt_logprobs"),
    ],
)
def test_settings_that_it_does_not_have_are_refused_by_name(
    options: GenerationOptions, field: str
) -> None:
    assert refused(options=options).field == field
    assert asked(options=options, lossy=True).keys() == {"model", "messages"}


def test_h6_what_other_servers_of_the_dialect_take_is_sent() -> None:
    """H6: top_k is copied."""
    options = GenerationOptions(top_k=5, min_p=0.1, repetition_penalty=1.1)
    body = asked(options=options, model="qwen3", template={"enable_thinking": True})
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (5, 0.1, 1.1)
    assert body["chat_template_kwargs"] == {"enable_thinking": True}


def test_the_key_s_header() -> None:
    assert UPSTREAM.authorization("sk") == (b"authorization", b"Bearer sk")
    assert (UPSTREAM.path, UPSTREAM.framing) == ("/v1/chat/completions", "sse")
