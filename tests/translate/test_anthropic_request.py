"""Anthropic's requests, as Claude Code sends them too: fields, thoughts, tools."""

import json
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsStreaming

from bessemer.engine.request import Refusal
from bessemer.translate.anthropic_request import decode_request
from bessemer.translate.chat import (
    Chat,
    GenerationOptions,
    Message,
    Reasoning,
    Tool,
    ToolCall,
    ToolChoice,
)
from bessemer.translate.parts import SignedThought, Text, said
from bessemer.translate.signature import Signer

USER = {"role": "user", "content": "Hi"}
REDACTED = SignedThought("", "xyz", "anthropic")
MARK = {"type": "ephemeral"}


def decoded(*messages: Any, **fields: Any) -> Chat:
    body = {"model": "m", "max_tokens": 9, "messages": list(messages) or [USER], **fields}
    return decode_request(json.dumps(body).encode())


def refused(*messages: Any, **fields: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decoded(*messages, **fields)
    assert caught.value.status == 400
    return caught.value


def test_the_sdks_request_type() -> None:
    params: MessageCreateParamsStreaming = {
        "model": "m",
        "max_tokens": 9,
        "system": [
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Be kind."},
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": ""},
                    {"type": "redacted_thinking", "data": "xyz"},
                    {"type": "text", "text": "Yes?"},
                ],
            },
            {"role": "user", "content": "Well."},
        ],
        "stream": True,
        "stop_sequences": ["END"],
        "thinking": {"type": "enabled", "budget_tokens": 8},
        "tool_choice": {"type": "auto"},
        "tools": [],
        "metadata": {"user_id": "u1"},
        "service_tier": "auto",
        "output_config": {"effort": "low"},
    }
    sampling = {"temperature": 0.5, "top_p": 0.9, "top_k": 40}  # the SDK no longer types these
    assert decode_request(json.dumps({**params, **sampling}).encode()) == Chat(
        model="m",
        messages=(
            Message("system", (Text("Be brief."), Text("Be kind.")), in_parts=True),
            Message("user", said("Hi"), in_parts=True),
            Message("assistant", said("Yes?"), "Hm.", in_parts=True, signed=(REDACTED,)),
            Message("user", said("Well.")),
        ),
        options=GenerationOptions(
            max_tokens=9,
            temperature=0.5,
            top_p=0.9,
            top_k=40,
            stop=("END",),
            stream=True,
            cache_marked=True,
        ),
        reasoning=Reasoning(True, "low", 8),
        call_prefix="toolu_",
    )


def test_what_claude_code_adds_is_tolerated() -> None:
    chat = decoded(
        USER,
        {"role": "system", "content": "The date is today."},
        thinking={"type": "adaptive"},
        context_management={"edits": []},
        output_config={"effort": "high"},
    )
    assert chat.messages[1] == Message("system", said("The date is today."))
    assert chat.reasoning == Reasoning(True, "high")


def test_thinking() -> None:
    assert decoded().reasoning == Reasoning()
    assert decoded(thinking={"type": "disabled"}).reasoning == Reasoning(False)
    assert refused(thinking={"type": "deep"}).field == "thinking.type"
    assert refused(thinking={}).field == "thinking.type"


def test_budgets_and_levels() -> None:
    enabled = {"type": "enabled", "budget_tokens": 8}
    assert decoded(thinking=enabled).reasoning == Reasoning(True, None, 8)
    for budget in (9, 10):
        error = refused(thinking={**enabled, "budget_tokens": budget})
        assert error.field == "thinking.budget_tokens" and "less than max_tokens" in error.message
    assert refused(thinking={**enabled, "budget_tokens": 0}).field == "thinking.budget_tokens"
    for level in ("low", "medium", "high", "xhigh", "max"):
        assert decoded(output_config={"effort": level}).reasoning == Reasoning(None, level)
    error = refused(output_config={"effort": "none"})
    assert error.field == "output_config.effort"
    assert "low, medium, high, xhigh, max" in error.message
    omitted = {"type": "adaptive", "display": "omitted"}
    assert decoded(thinking=omitted).reasoning == Reasoning(True, shown="sealed")
    for display in ("summarized", "updates"):
        assert decoded(thinking={**omitted, "display": display}).reasoning == Reasoning(True)
    assert decoded(thinking={"type": "between_tools"}).reasoning == Reasoning(False)
    assert refused(thinking={**omitted, "display": "loud"}).field == "thinking.display"


def test_what_the_system_says_for_one_turn_alone_is_gone_with_the_next() -> None:
    note = {"role": "system", "content": "Now.", "clear_at": "next_user_message"}
    assert [turn.text for turn in decoded(USER, note).messages] == ["Hi", "Now."]
    answer = {"role": "assistant", "content": "So."}
    assert [turn.text for turn in decoded(USER, note, answer, USER).messages] == ["Hi", "So.", "Hi"]
    stays = {**note, "clear_at": "never"}
    assert len(decoded(USER, stays, answer, USER).messages) == 4


def test_a_turn_of_the_system_s_may_say_how_much_effort_is_made() -> None:
    """As Claude Code says it to its helpers."""
    turn: dict[str, Any] = {"role": "system", "content": "So.", "output_config": {"effort": "low"}}
    assert decoded(USER, turn, output_config={"effort": "high"}).reasoning.effort == "low"
    assert decoded(USER, {**turn, "output_config": {}}).reasoning.effort is None
    bad = refused(USER, {**turn, "output_config": {"effort": "none"}})
    assert bad.field == "messages[1].output_config.effort"


def thinking(thought: str, **more: str) -> dict[str, Any]:
    block = {"type": "thinking", "thinking": thought, **more}
    return {"role": "assistant", "content": [{"type": "text", "text": "So."}, block]}


def test_a_thought_that_comes_back_is_ours_or_anothers() -> None:
    ours = Signer("Hm.").signature
    for more in ({"signature": ours}, {"signature": ""}, {}, {"signature": "EqQBCgIYAh" * 20}):
        assert decoded(USER, thinking("Hm.", **more), USER).messages[1].reasoning == "Hm."
    forged = Signer("Ha.").signature
    for signature in (forged, ours[:-1], ours[:-1] + "~", ours + "AAAA", "wrong"):
        error = refused(USER, thinking("Hm.", signature=signature), USER)
        words = "messages.1.content.1: Invalid `signature` in `thinking` block"
        assert (error.message, error.field) == (words, "messages[1].content[1].signature")


def test_what_another_server_signed_is_kept_as_it_was() -> None:
    theirs = "EqQBCgIYAh" * 20
    assert decoded(USER, thinking("Hm.", signature=theirs), USER).messages[1].signed == (
        SignedThought("Hm.", theirs, "anthropic"),
    )
    omitted = decoded(USER, thinking("", signature=theirs), USER).messages[1]
    assert omitted.signed == (SignedThought("", theirs, "anthropic", omitted=True),)
    assert omitted.reasoning is None
    ours = thinking("Hm.", signature=Signer("Hm.").signature)
    assert decoded(USER, ours, USER).messages[1].signed == ()
    elsewhere = decoded(USER, thinking("Hm.", signature="responses:gAAA"), USER).messages[1]
    assert elsewhere.signed == (SignedThought("Hm.", "gAAA", "responses"),)


def test_where_the_prompt_is_to_be_kept() -> None:
    hour = {"type": "ephemeral", "ttl": "1h"}
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {}, "cache_control": MARK}
    result = {"type": "tool_result", "tool_use_id": "a", "content": "4", "cache_control": MARK}
    chat = decoded(
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": MARK}]},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
        system=[{"type": "text", "text": "Be brief.", "cache_control": hour}],
        tools=[{"name": "f", "input_schema": {}, "cache_control": hour}, {"name": "g"}],
    )
    system, asked, called, told = chat.messages
    assert [each.content[0].kept for each in (system, asked, told)] == ["1h", "5m", "5m"]
    assert called.calls[0].kept == "5m" and [tool.kept for tool in chat.tools] == ["1h", ""]
    assert chat.options.cache_marked


def test_system() -> None:
    assert decoded(system="Be brief.").messages[0] == Message("system", said("Be brief."))
    assert decoded(system="") == decoded(system=[]) == decoded()


def test_a_last_turn_of_the_assistant_is_gone_on_with() -> None:
    assert decoded(USER, {"role": "assistant", "content": "I"}).continue_final
    assert not decoded(USER, {"role": "assistant", "content": ""}).continue_final
    assert not decoded().continue_final


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0].type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "x"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "redacted_thinking"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "smell"}]}]},
            "messages[0].content[0].type",
        ),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"system": 5}, "system"),
        ({"stop_sequences": [""]}, "stop_sequences[0]"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
    ],
)
def test_flawed_requests(fields: dict[str, Any], field: str) -> None:
    assert refused(**fields).field == field


def test_max_tokens_is_required() -> None:
    with pytest.raises(Refusal, match="max_tokens is required"):
        decode_request(json.dumps({"model": "m", "messages": [USER]}).encode())


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
    ],
)
def test_what_is_not_built_yet_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    error = refused(**fields)
    assert (error.code, error.field) == ("unsupported", field)


def test_tools_calls_and_results() -> None:
    params: MessageCreateParamsStreaming = {
        "model": "m",
        "max_tokens": 9,
        "stream": True,
        "tools": [
            {"name": "f", "description": "Does.", "input_schema": {"type": "object"}},
            {"type": "web_search_20250305", "name": "web_search"},
        ],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "messages": [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1, "é"]}},
                    {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "4"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_2",
                        "is_error": True,
                        "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                    },
                    {"type": "text", "text": "And now?"},
                ],
            },
        ],
    }
    chat = decode_request(json.dumps(params).encode())
    assert chat.tools == (Tool("f", "Does.", {"type": "object"}),)
    assert chat.tool_choice == ToolChoice("auto", (), parallel=False)
    calls = (ToolCall("toolu_1", "f", '{"a":[1,"é"]}'), ToolCall("toolu_2", "g", "{}"))
    assert chat.messages == (
        Message("user", said("Hi")),
        Message("assistant", said("I look."), calls=calls, in_parts=True),
        Message("tool", said("4"), result_of="toolu_1"),
        Message("tool", (Text("a"), Text("b")), result_of="toolu_2", failed=True, in_parts=True),
        Message("user", said("And now?"), in_parts=True),
    )
    assert not chat.continue_final


def test_choices() -> None:
    tools = [{"name": "f", "strict": True}, {"name": "g"}]
    for choice, meant in (
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("required", (), False)),
        ({"type": "tool", "name": "g"}, ToolChoice("required", ("g",))),
        ({"type": "none"}, ToolChoice("none")),
    ):
        chat = decoded(tools=tools, tool_choice=choice)
        assert chat.tool_choice == meant
    assert chat.tools == (Tool("f", strict=True), Tool("g")) and chat.offered == ()


def test_a_turn_that_called_is_not_gone_on_with() -> None:
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    turn = {"role": "assistant", "content": [{"type": "text", "text": "So"}, call]}
    assert not decoded(USER, turn).continue_final


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tools": [{"name": "f f"}]}, "tools[0].name"),
        ({"tools": [{"name": "f"}, {"name": "f"}]}, "tools"),
        ({"tools": [{"name": "f"}], "tool_choice": {"type": "all"}}, "tool_choice.type"),
        ({"tools": [{"name": "f"}], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        (
            {"tools": [{"name": "f"}], "tool_choice": {"type": "tool", "name": "g"}},
            "tool_choice",
        ),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a"}]}]},
            "messages[0].content[0].name",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]},
            "messages[0].content[0].tool_use_id",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_use"}]}]},
            "messages[0].content[0].type",
        ),
    ],
)
def test_flawed_tools(fields: dict[str, Any], field: str) -> None:
    assert refused(**fields).field == field
