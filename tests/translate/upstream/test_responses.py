"""Conversations as OpenAI's Responses API is asked for them, by the official package's types."""

from typing import Any

import pytest
from openai.types.responses.response_create_params import (
    ResponseCreateParamsNonStreaming,
    ResponseCreateParamsStreaming,
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
from bessemer.translate.upstream.responses import UPSTREAM
from tests.translate.upstream.sent import sent

WHOLE: TypeAdapter[Any] = TypeAdapter(ResponseCreateParamsNonStreaming)
STREAMED: TypeAdapter[Any] = TypeAdapter(ResponseCreateParamsStreaming)
ASK = Message("user", said("Hi"))
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOLS = Tool("add", "Adds.", SCHEMA, strict=True), Tool("clock")
SEALED = "reasoning.encrypted_content"
PNG = Image(media_type="image/png", data=b"\x89PN", detail="low", field="here")


def asked(*messages: Message, **about: Any) -> dict[str, Any]:
    lossy = about.pop("lossy", False)
    return sent(UPSTREAM, Chat("gpt-5.6", messages or (ASK,), **about), WHOLE, lossy)


def refused(*messages: Message, **about: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        asked(*messages, **about)
    assert (caught.value.status, caught.value.code) == (400, "unsupported")
    assert "OpenAI" in caught.value.message
    return caught.value


def test_a_conversation_with_calls() -> None:
    options = GenerationOptions(90, temperature=0.5, top_p=0.9, logprobs=2, stream=True)
    messages = (
        Message("system", said("Be brief.")),
        ASK,
        Message("assistant", said("Let me see."), calls=(ToolCall("a", "add", '{"a": 1}'),)),
        Message("tool", said("4"), result_of="a"),
        Message("system", said("Be kind.")),
        Message("user", (Text("And"), Text("?"))),
    )
    chat = Chat("gpt-5.6", messages, options, tools=TOOLS)
    assert sent(UPSTREAM, chat, STREAMED) == {
        "model": "gpt-5.6",
        "instructions": "Be brief.",
        "input": [
            {"type": "message", "role": "user", "content": "Hi"},
            {"type": "message", "role": "assistant", "content": "Let me see."},
            {"type": "function_call", "call_id": "a", "name": "add", "arguments": '{"a": 1}'},
            {"type": "function_call_output", "call_id": "a", "output": "4"},
            {"type": "message", "role": "system", "content": "Be kind."},
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "And"},
                    {"type": "input_text", "text": "?"},
                ],
            },
        ],
        "max_output_tokens": 90,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_logprobs": 2,
        "include": ["message.output_text.logprobs"],
        "tools": [
            {
                "type": "function",
                "name": "add",
                "description": "Adds.",
                "parameters": SCHEMA,
                "strict": True,
            },
            {
                "type": "function",
                "name": "clock",
                "parameters": {"type": "object", "properties": {}},
                "strict": False,
            },
        ],
        "store": False,
        "stream": True,
    }


def test_log_probabilities_without_alternatives() -> None:
    body = asked(options=GenerationOptions(logprobs=0))
    assert body["include"] == ["message.output_text.logprobs"] and "top_logprobs" not in body


def test_images_and_files() -> None:
    content = (
        PNG,
        Image(media_type="", url="https://a.org/b.png"),
        Image(media_type="", file_id="file_1"),
        Document(media_type="application/pdf", data=b"%PD", title="a.pdf"),
        Document(media_type="application/pdf", data=b"%PD"),
        Document(media_type="application/pdf", url="https://a.org/a.pdf"),
        Document(media_type="application/pdf", file_id="file_2"),
        Text(""),
        Text("Why?"),
    )
    pdf = "data:application/pdf;base64,JVBE"
    (item,) = asked(Message("user", content))["input"]
    assert item["content"] == [
        {"type": "input_image", "detail": "low", "image_url": "data:image/png;base64,iVBO"},
        {"type": "input_image", "detail": "auto", "image_url": "https://a.org/b.png"},
        {"type": "input_image", "detail": "auto", "file_id": "file_1"},
        {"type": "input_file", "filename": "a.pdf", "file_data": pdf},
        {"type": "input_file", "filename": "document.pdf", "file_data": pdf},
        {"type": "input_file", "file_url": "https://a.org/a.pdf"},
        {"type": "input_file", "file_id": "file_2"},
        {"type": "input_text", "text": "Why?"},
    ]


def test_results_with_images_errors_and_none_at_all() -> None:
    calls = tuple(ToolCall(id, "add", "") for id in "abc")
    results = (
        Message("tool", (Text("See:"), PNG), result_of="a"),
        Message("tool", said("No."), result_of="b", failed=True),
        Message("tool", result_of="c"),
    )
    _, *items = asked(ASK, Message("assistant", calls=calls), *results, tools=TOOLS)["input"]
    assert [item["arguments"] for item in items[:3]] == ["{}"] * 3
    first, second, third = (item["output"] for item in items[3:])
    assert [part["type"] for part in first] == ["input_text", "input_image"]
    assert (second, third) == ("Error: No.", "")


def test_thoughts_go_back_as_they_were_sealed_and_before_what_they_led_to() -> None:
    signed = (
        SignedThought("Hm.", "gAAA", "responses"),
        SignedThought("", "gBBB", "responses"),
        SignedThought("Else.", "EqQB", "anthropic"),
    )
    turn = Message("assistant", said("So."), "Hm.\nElse.", signed=signed)
    body = asked(ASK, turn, ASK)
    summary = [{"type": "summary_text", "text": "Hm."}]
    assert body["input"][1:3] == [
        {"type": "reasoning", "summary": summary, "encrypted_content": "gAAA"},
        {"type": "reasoning", "summary": [], "encrypted_content": "gBBB"},
    ]
    assert body["input"][3]["content"] == "So." and body["include"] == [SEALED]


def test_a_system_s_image_is_no_instruction() -> None:
    first = Message("system", (Text("Look:"), PNG))
    body = asked(first, ASK)
    assert "instructions" not in body and len(body["input"][0]["content"]) == 2


@pytest.mark.parametrize(
    ("choice", "rule", "parallel"),
    [
        (ToolChoice(), None, None),
        (ToolChoice("none"), "none", None),
        (ToolChoice("required", parallel=False), "required", False),
        (ToolChoice("required", ("add",)), {"type": "function", "name": "add"}, None),
        (
            ToolChoice("auto", ("add",)),
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "add"}],
            },
            None,
        ),
        (ToolChoice("none", ("add",)), "none", None),
        (ToolChoice("auto", ("add", "clock")), None, None),
    ],
)
def test_choices_of_tools(choice: ToolChoice, rule: Any, parallel: Any) -> None:
    body = asked(tools=TOOLS, tool_choice=choice)
    assert (body.get("tool_choice"), body.get("parallel_tool_calls")) == (rule, parallel)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & asked(tool_choice=choice).keys()


def test_tools_that_no_turn_told_of_yet_are_not_there() -> None:
    later = Tool("later", deferred=True)
    tools = (*TOOLS, later)
    body = asked(tools=tools, tool_choice=ToolChoice("auto", ("add", "clock")))
    assert [tool["name"] for tool in body["tools"]] == ["add", "clock"]
    assert "tool_choice" not in body and len(asked(tools=tools)["tools"]) == 3


@pytest.mark.parametrize(
    ("reasoning", "expected"),
    [
        (Reasoning(), None),
        (Reasoning(False), {"effort": "none"}),
        (Reasoning(True, budget=0), {"effort": "none"}),
        (Reasoning(None, "high"), {"effort": "high"}),
        (Reasoning(True, "xhigh"), {"effort": "xhigh", "summary": "auto"}),
        (Reasoning(True), {"summary": "auto"}),
        (Reasoning(True, "low", shown="hidden"), {"effort": "low"}),
        (Reasoning(True, budget=4800), {"effort": "medium", "summary": "auto"}),
        (Reasoning(True, budget=9000), {"effort": "xhigh", "summary": "auto"}),
        (Reasoning(True, shown="sealed"), None),
    ],
)
def test_budgets_are_efforts(reasoning: Reasoning, expected: Any) -> None:
    body = asked(reasoning=reasoning, options=GenerationOptions(10_000))
    assert body.get("reasoning") == expected
    thinks = expected is not None and expected != {"effort": "none"}
    assert body.get("include") == ([SEALED] if thinks else None)


def test_forms_of_answers() -> None:
    """OpenAI's need a name."""
    schema = ResponseFormat("json_schema", '{"type":"object"}', strict=False)
    format = {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}
    assert asked(response_format=schema)["text"] == {"format": format | {"strict": False}}
    any_object = ResponseFormat("json_object", "")
    assert asked(response_format=any_object)["text"] == {"format": {"type": "json_object"}}
    regex = ResponseFormat("regex", "a+", field="guided_regex")
    assert refused(response_format=regex).field == "guided_regex"
    assert "text" not in asked(response_format=regex, lossy=True)


@pytest.mark.parametrize(
    ("overflow", "expected"), [(None, None), ("truncate", "auto"), ("error", "disabled")]
)
def test_prompts_that_are_too_long(overflow: Any, expected: str | None) -> None:
    options = GenerationOptions(overflow=overflow)
    assert asked(options=options).get("truncation") == expected


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (GenerationOptions(stop=("a",)), "stop"),
        (GenerationOptions(top_k=4), "top_k"),
        (GenerationOptions(seed=4), "seed"),
        (GenerationOptions(n=2), "n"),
        (GenerationOptions(frequency_penalty=0.5), "frequency_penalty"),
        (GenerationOptions(overflow="summarize"), "context_overflow"),
    ],
)
def test_what_it_cannot_say_is_refused_by_its_field(options: GenerationOptions, field: str) -> None:
    assert refused(options=options).field == field
    assert asked(options=options, lossy=True) == asked()


def test_an_answer_that_is_begun_is_refused() -> None:
    """As a last turn of the assistant begins one, for Anthropic's clients."""
    begun = ASK, Message("assistant", said("I am"))
    assert refused(*begun, continue_final=True).field == "messages"
    assert len(asked(*begun, continue_final=True, lossy=True)["input"]) == 2
    assert len(asked(*begun)["input"]) == 2


@pytest.mark.parametrize(
    "message",
    [
        Message("user", (Audio(media_type="audio/wav", data=b"a", field="here"), *said("Hi"))),
        Message("assistant", (PNG,)),
    ],
)
def test_parts_that_it_cannot_take_are_refused_by_theirs(message: Message) -> None:
    assert refused(message).field == "here"
    assert asked(message, lossy=True)["input"] in ([], asked()["input"])


def test_the_key_is_a_bearer_s() -> None:
    assert UPSTREAM.authorization("k") == (b"authorization", b"Bearer k")
    assert (UPSTREAM.format, UPSTREAM.path) == ("responses", "/v1/responses")
