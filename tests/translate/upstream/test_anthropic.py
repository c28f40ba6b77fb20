"""Conversations as Anthropic's Messages API is asked for them, by the official package's types."""

import base64
from typing import Any

import pytest
from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from anthropic.types.model_param import ModelParam
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
from bessemer.translate.upstream.anthropic import ADAPTIVE, UPSTREAM
from tests.translate.upstream.sent import sent

WHOLE: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)
STREAMED: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsStreaming)
ASK = Message("user", said("Hi"))
ADD = Tool("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}})
PNG = Image(media_type="image/png", data=b"\x89PN", kept="5m", field="messages[0].content[0].type")
TOOLS = (ADD, Tool("clock"))


def asked(*messages: Message, **about: Any) -> dict[str, Any]:
    lossy = about.pop("lossy", False)
    return sent(UPSTREAM, Chat("claude-haiku-4-5", messages or (ASK,), **about), WHOLE, lossy)


def refused(*messages: Message, **about: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        asked(*messages, **about)
    assert (caught.value.status, caught.value.code) == (400, "unsupported")
    assert "Anthropic" in caught.value.message
    return caught.value


def test_H6_a_conversation_with_calls() -> None:
    """System messages are joined, results of calls are a user's blocks, arguments are parsed."""
    options = GenerationOptions(9, temperature=0.5, top_p=0.9, top_k=4, stop=("END",), stream=True)
    messages = (
        Message("system", said("Be brief.")),
        ASK,
        Message("assistant", said("Let me see."), calls=(ToolCall("a", "add", '{"a": 1}'),)),
        Message("tool", said("4"), result_of="a"),
        Message("system", said("Be kind.")),
        Message("user", said("And?")),
        Message("assistant"),
    )
    chat = Chat("claude-haiku-4-5", messages, options, tools=TOOLS)
    assert sent(UPSTREAM, chat, STREAMED) == {
        "model": "claude-haiku-4-5",
        "max_tokens": 9,
        "system": "Be brief.\nBe kind.",
        "messages": [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me see."},
                    {"type": "tool_use", "id": "a", "name": "add", "input": {"a": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "a", "content": "4"},
                    {"type": "text", "text": "And?"},
                ],
            },
        ],
        "tools": [
            {"name": "add", "description": "Adds.", "input_schema": ADD.parameters},
            {"name": "clock", "input_schema": {"type": "object", "properties": {}}},
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "stop_sequences": ["END"],
        "stream": True,
    }


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        (GenerationOptions(), 32_000),
        (GenerationOptions(usual_max_tokens=16), 16),
        (GenerationOptions(5, usual_max_tokens=16), 5),
        (GenerationOptions(0), 0),
    ],
)
def test_H6_an_answer_always_has_a_limit(options: GenerationOptions, tokens: int) -> None:
    assert asked(options=options)["max_tokens"] == tokens


def test_results_come_first_and_nothing_is_sent_that_says_nothing() -> None:
    calls = ToolCall("a", "add", "{}"), ToolCall("b", "add", "{}")
    between = Message("user", (Text(""), Text("Wait.")))
    results = (Message("tool", said(each), result_of=each) for each in "ab")
    turns = ASK, Message("assistant", (Text(""),), calls=calls), next(results), between
    body = asked(*turns, *results, options=GenerationOptions(9, top_k=0))
    assert [block["type"] for block in body["messages"][1]["content"]] == ["tool_use"] * 2
    told = body["messages"][2]["content"]
    assert [block.get("text", block.get("tool_use_id")) for block in told] == ["a", "b", "Wait."]
    assert not {"top_k", "system", "stop_sequences", "stream", "tools"} & body.keys()


def test_images_and_documents() -> None:
    data = base64.b64encode(PNG.data).decode()
    parts = (
        PNG,
        Image(media_type="", url="https://a.org/b.png", detail="low"),
        Image(media_type="", file_id="file_1"),
        Document(media_type="application/pdf", data=PNG.data, title="A"),
        Document(media_type="application/pdf", url="https://a.org/a.pdf"),
        Document(media_type="text/plain", data=b"Steel.", kept="1h"),
        Text("Why?"),
    )
    mark = {"cache_control": {"type": "ephemeral"}}
    (turn,) = asked(Message("user", parts))["messages"]
    source = {"type": "base64", "data": data}
    assert turn["content"] == [
        {"type": "image", "source": source | {"media_type": "image/png"}, **mark},
        {"type": "image", "source": {"type": "url", "url": "https://a.org/b.png"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "document", "source": source | {"media_type": "application/pdf"}, "title": "A"},
        {"type": "document", "source": {"type": "url", "url": "https://a.org/a.pdf"}},
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "Steel."},
            "cache_control": {"type": "ephemeral", "ttl": "1h"},
        },
        {"type": "text", "text": "Why?"},
    ]


def test_results_with_images_errors_and_none_at_all() -> None:
    calls = tuple(ToolCall(id, "add", "{}") for id in "abc")
    results = (
        Message("tool", (Text("See:"), PNG), result_of="a"),
        Message("tool", said("No."), result_of="b", failed=True),
        Message("tool", result_of="c"),
    )
    told = asked(ASK, Message("assistant", calls=calls), *results, tools=TOOLS)["messages"][2]
    first, second, third = told["content"]
    assert [part["type"] for part in first["content"]] == ["text", "image"]
    assert first["cache_control"] == {"type": "ephemeral"}
    assert "cache_control" not in first["content"][1]
    assert (second["content"], second["is_error"]) == ("No.", True)
    assert third == {"type": "tool_result", "tool_use_id": "c"}


def test_thoughts_go_back_as_they_were_signed_and_before_all_else() -> None:
    signed = (
        SignedThought("Hm.", "EqQB", "anthropic"),
        SignedThought("", "blob", "anthropic"),
        SignedThought("", "EqQC", "anthropic", omitted=True),
        SignedThought("Else.", "gAAA", "responses"),
        SignedThought("Who?", "x"),
    )
    turn = Message("assistant", said("So."), "Hm.\nElse.", signed=signed)
    content = asked(ASK, turn, ASK)["messages"][1]["content"]
    assert content == [
        {"type": "thinking", "thinking": "Hm.", "signature": "EqQB"},
        {"type": "redacted_thinking", "data": "blob"},
        {"type": "thinking", "thinking": "", "signature": "EqQC"},
        {"type": "thinking", "thinking": "Who?", "signature": "x"},
        {"type": "text", "text": "So."},
    ]


def test_what_is_to_be_cached() -> None:
    hour, minutes = {"type": "ephemeral", "ttl": "1h"}, {"type": "ephemeral"}
    body = asked(
        Message("system", (Text("Be brief.", "1h"), Text("Be kind."))),
        Message("user", (Text("Hi", "5m"),)),
        Message("assistant", calls=(ToolCall("a", "add", "{}", "5m"),)),
        tools=(Tool("add", kept="1h"),),
        options=GenerationOptions(cache_marked=True),
    )
    assert [block.get("cache_control") for block in body["system"]] == [hour, None]
    assert body["messages"][0]["content"][0]["cache_control"] == minutes
    assert body["messages"][1]["content"][0]["cache_control"] == minutes
    assert body["tools"][0]["cache_control"] == hour and "cache_control" not in body
    whole = asked(options=GenerationOptions(cache_marked=True))
    assert whole["cache_control"] == minutes


def test_ids_are_such_as_it_takes() -> None:
    calls = (
        ToolCall("functions.add:0", "add", "{}"),
        ToolCall("", "add", '{"a'),
        ToolCall("", "g", ""),
    )
    results = Message("tool", name="g", result_of=""), Message("tool", name="add", result_of="")
    named = Message("tool", result_of="functions.add:0")
    body = asked(ASK, Message("assistant", calls=calls), *results, named, tools=TOOLS)
    called, told = (message["content"] for message in body["messages"][1:])
    ids = [block["id"] for block in called]
    assert ids[0] == "functions_add_0" and len({*ids}) == 3
    assert [block["tool_use_id"] for block in told] == [ids[2], ids[1], ids[0]]
    assert [block["input"] for block in called[1:]] == [
        {"INVALID_JSON": '{"a'},
        {"INVALID_JSON": ""},
    ]


@pytest.mark.parametrize(
    ("choice", "rule", "tools"),
    [
        (ToolChoice(), None, 2),
        (ToolChoice("none"), {"type": "none"}, 2),
        (ToolChoice("required"), {"type": "any"}, 2),
        (ToolChoice("required", ("add",)), {"type": "tool", "name": "add"}, 2),
        (ToolChoice("auto", ("add",)), None, 1),
        (ToolChoice("required", ("add", "clock")), {"type": "any"}, 2),
        (ToolChoice(parallel=False), {"type": "auto", "disable_parallel_tool_use": True}, 2),
        (
            ToolChoice("required", ("add",), False),
            {"type": "tool", "name": "add", "disable_parallel_tool_use": True},
            2,
        ),
        (ToolChoice("none", parallel=False), {"type": "none"}, 2),
    ],
)
def test_choices_of_tools(choice: ToolChoice, rule: Any, tools: int) -> None:
    body = asked(tools=TOOLS, tool_choice=choice)
    assert body.get("tool_choice") == rule and len(body["tools"]) == tools


def test_strict_tools() -> None:
    text = {"type": "object", "properties": {"input": {"type": "string"}}}
    tools = Tool("f", parameters={}, strict=True), Tool("g", "In Lark.", text, True, 'start: "a"')
    first, second = asked(tools=tools)["tools"]
    assert first == {
        "name": "f",
        "input_schema": {"type": "object", "properties": {}},
        "strict": True,
    }
    assert "strict" not in second and "tool_choice" not in asked(tool_choice=ToolChoice("none"))


SUMMED = {"display": "summarized"}


@pytest.mark.parametrize(
    ("reasoning", "old", "new"),
    [
        (Reasoning(), {}, {}),
        (Reasoning(False), {"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}),
        (Reasoning(True, budget=0), {"thinking": {"type": "disabled"}}, None),
        (Reasoning(False, "none"), {"thinking": {"type": "disabled"}}, None),
        (
            Reasoning(None, "high"),
            {"output_config": {"effort": "high"}},
            {"output_config": {"effort": "high"}},
        ),
        (
            Reasoning(True, "high"),
            {"thinking": {"type": "enabled", "budget_tokens": 8000}},
            {"thinking": {"type": "adaptive", **SUMMED}, "output_config": {"effort": "high"}},
        ),
        (
            Reasoning(True, "minimal"),
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
            {"thinking": {"type": "adaptive", **SUMMED}, "output_config": {"effort": "low"}},
        ),
        (
            Reasoning(True, "max"),
            {"thinking": {"type": "enabled", "budget_tokens": 9999}},
            {"thinking": {"type": "adaptive", **SUMMED}, "output_config": {"effort": "max"}},
        ),
        (
            Reasoning(True),
            {"thinking": {"type": "enabled", "budget_tokens": 5000}},
            {"thinking": {"type": "adaptive", **SUMMED}},
        ),
        (
            Reasoning(None, budget=2100),
            {"thinking": {"type": "enabled", "budget_tokens": 2100}},
            {"thinking": {"type": "adaptive", **SUMMED}, "output_config": {"effort": "low"}},
        ),
        (
            Reasoning(True, "medium", shown="hidden"),
            {"thinking": {"type": "enabled", "budget_tokens": 5000, "display": "omitted"}},
            {
                "thinking": {"type": "adaptive", "display": "omitted"},
                "output_config": {"effort": "medium"},
            },
        ),
    ],
)
def test_effort_is_a_budget_of_older_models(reasoning: Reasoning, old: Any, new: Any) -> None:
    for model, expected in (("claude-sonnet-4-5", old), ("claude-opus-4-8", new)):
        if expected is not None:
            chat = Chat(model, (ASK,), GenerationOptions(10_000), reasoning=reasoning)
            body = sent(UPSTREAM, chat, WHOLE)
            assert {k: body[k] for k in ("thinking", "output_config") if k in body} == expected


def test_which_models_think_as_they_see_fit() -> None:
    """Of the names that the official package knows."""
    names = {
        *ModelParam.__args__[0].__args__,
        "claude-sonnet-4-20250514",
        "claude-3-7-sonnet-latest",
    }
    old = {name for name in names if ADAPTIVE.search(name) is None}
    assert all("4-5" in name or "2025" in name or "3-7" in name for name in old)
    assert len(old) == 8 and ADAPTIVE.search("claude-sonnet-4-6")


def test_an_answer_too_short_for_thoughts() -> None:
    about = {"options": GenerationOptions(1024), "reasoning": Reasoning(True, "low")}
    assert refused(**about).field == "max_tokens"
    assert asked(lossy=True, **about)["thinking"] == {"type": "disabled"}
    few = {"options": GenerationOptions(4000), "reasoning": Reasoning(True, budget=9)}
    assert refused(**few).field == "thinking.budget_tokens"
    assert asked(lossy=True, **few)["thinking"]["budget_tokens"] == 1024


def test_forms_of_answers() -> None:
    schema = '{"type": "object", "additionalProperties": false}'
    effort = Reasoning(None, "low")
    body = asked(response_format=ResponseFormat("json_schema", schema), reasoning=effort)
    format = {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}}
    assert body["output_config"] == {"format": format, "effort": "low"}
    any_object = ResponseFormat("json_object", "", field="text.format")
    assert refused(response_format=any_object).field == "text.format"
    assert "output_config" not in asked(response_format=any_object, lossy=True)


@pytest.mark.parametrize(
    ("about", "field", "left"),
    [
        ({"options": GenerationOptions(temperature=1.5)}, "temperature", {"temperature": 1.0}),
        ({"options": GenerationOptions(stop=("\n", "a"))}, "stop", {"stop_sequences": ["a"]}),
        ({"options": GenerationOptions(seed=1)}, "seed", {}),
        ({"options": GenerationOptions(n=2)}, "n", {}),
        ({"options": GenerationOptions(logprobs=0)}, "logprobs", {}),
        ({"template": {"a": 1}}, "chat_template_kwargs", {}),
        ({"before": (1,)}, "context", {}),
    ],
)
def test_what_it_cannot_say_is_refused_by_its_field(about: Any, field: str, left: Any) -> None:
    assert refused(**about).field == field
    body = asked(lossy=True, **about)
    assert body.items() >= left.items() and not {"seed", "n", "logprobs"} & body.keys()


@pytest.mark.parametrize(
    "message",
    [
        Message("user", (Audio(media_type="audio/wav", data=b"a", field="here"),)),
        Message("user", (Document(media_type="application/zip", data=b"a", field="here"),)),
        Message("assistant", (Image(media_type="image/png", data=b"a", field="here"),)),
        Message("system", (Image(media_type="image/png", data=b"a", field="here"),)),
    ],
)
def test_parts_that_it_cannot_take_are_refused_by_theirs(message: Message) -> None:
    assert refused(ASK, message).field == "here"
    assert asked(ASK, message, lossy=True)["messages"] == [{"role": "user", "content": "Hi"}]


def test_the_key_has_a_header_of_its_own() -> None:
    assert UPSTREAM.authorization("k") == (b"x-api-key", b"k")
    assert UPSTREAM.headers == {b"anthropic-version": b"2023-06-01"}
    assert (UPSTREAM.format, UPSTREAM.path) == ("anthropic", "/v1/messages")
