"""Anthropic's tools that turns bring in: deferred ones that were found, added and removed ones."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from anthropic.types.beta import (
    BetaRequestToolAdditionBlockParam,
    BetaRequestToolRemovalBlockParam,
    BetaToolParam,
)
from anthropic.types.tool_reference_block_param import ToolReferenceBlockParam

from bessemer.engine.request import Refusal
from bessemer.translate.anthropic_request import decode_request
from bessemer.translate.chat import Chat, ToolChoice
from tests.translate.prompting import prompter
from tests.translate.scripted import scripting_tokenizer

SCHEMA: dict[str, object] = {"type": "object", "properties": {"url": {"type": "string"}}}
SEARCH: BetaToolParam = {"name": "ToolSearch", "input_schema": {"type": "object"}}
FETCH: BetaToolParam = {
    "name": "WebFetch",
    "description": "Gets it.",
    "input_schema": SCHEMA,
    "defer_loading": True,
}
LATER: BetaToolParam = {"name": "Later", "input_schema": {}, "defer_loading": True}
TOOLS = [SEARCH, FETCH, LATER]
SHOWN = (
    '<function>{"name":"WebFetch","description":"Gets it.",'
    '"parameters":{"type":"object","properties":{"url":{"type":"string"}}}}</function>'
)
ASK = {"role": "user", "content": "Hi"}
TURNS = (
    "{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}({{ c.function.name }}){% endfor %}{% endfor %}"
)


def decoded(*turns: Any, tools: Iterable[Any] = TOOLS, **fields: Any) -> Chat:
    body = {"model": "m", "max_tokens": 9, "messages": [ASK, *turns], "tools": [*tools], **fields}
    return decode_request(json.dumps(body).encode())


def refused(*turns: Any, tools: Iterable[Any] = TOOLS) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decoded(*turns, tools=tools)
    assert caught.value.status == 400
    return caught.value


def found(*names: str) -> list[Any]:
    """Return a call of the search, and its result."""
    references: list[ToolReferenceBlockParam] = [
        {"type": "tool_reference", "tool_name": name} for name in names
    ]
    call = {"type": "tool_use", "id": "a", "name": "ToolSearch", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "a", "content": references}
    return [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]


def system(*blocks: Any) -> dict[str, Any]:
    return {"role": "system", "content": list(blocks)}


def names(chat: Chat) -> tuple[list[str], list[str]]:
    """Return the tools that the prompt begins with, and those that may be called."""
    return [tool.name for tool in chat.listed], [tool.name for tool in chat.offered]


def test_a_deferred_tool_stands_where_it_was_found() -> None:
    assert names(decoded()) == (["ToolSearch"], ["ToolSearch"])
    chat = decoded(*found("WebFetch"), *found("WebFetch"))
    assert names(chat) == (["ToolSearch"], ["ToolSearch", "WebFetch"])
    results = [turn.text for turn in chat.messages if turn.role == "tool"]
    assert results == [SHOWN, "<function>WebFetch</function>"]
    both = decoded(*found("WebFetch", "Later"))
    assert names(both)[1] == ["ToolSearch", "WebFetch", "Later"]
    assert both.messages[-1].text.count("\n") == 1 and not both.tool_choice.names


def test_what_is_before_a_tool_that_was_found_stays_as_it_was() -> None:
    render = prompter(scripting_tokenizer([TURNS], []), TURNS).template.render
    before, after = render(decoded()), render(decoded(*found("WebFetch")))
    assert before == "[ToolSearch]<user>Hi"
    assert after.startswith(f"{before}<assistant>") and after.endswith(f"<tool>{SHOWN}")


def test_what_anthropic_s_servers_were_to_find_is_there_from_the_first() -> None:
    server = {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}
    assert names(decoded(tools=[server, FETCH])) == (["WebFetch"], ["WebFetch"])


def test_the_system_adds_tools_and_takes_them_away() -> None:
    added: BetaRequestToolAdditionBlockParam = {
        "type": "tool_addition",
        "tool": {"type": "tool_reference", "name": "WebFetch"},
    }
    removed: BetaRequestToolRemovalBlockParam = {
        "type": "tool_removal",
        "tool": {"type": "tool_reference", "name": "ToolSearch"},
    }
    inline: BetaRequestToolAdditionBlockParam = {
        "type": "tool_addition",
        "tool": {"type": "tool_definition", "definition": {"name": "New", "input_schema": {}}},
    }
    chat = decoded(system(added, removed, {"type": "text", "text": "So."}), tool_choice=None)
    assert names(chat) == (["ToolSearch"], ["WebFetch"])
    assert chat.messages[-1].text == (
        f"From here on this can be called:\n{SHOWN}\nFrom here on ToolSearch cannot be called.\nSo."
    )
    chat = decoded(system(inline), tools=[SEARCH])
    assert names(chat) == (["ToolSearch"], ["ToolSearch", "New"])
    assert '{"name":"New","parameters":{}}' in chat.messages[-1].text
    back = {**removed, "type": "tool_addition"}
    assert names(decoded(system(removed), system(back)))[1] == ["ToolSearch"]
    assert decoded(system(removed)).tool_choice == ToolChoice("none")


@pytest.mark.parametrize(
    ("turn", "place", "code"),
    [
        (found("Nope")[1], "[0].content[0].tool_name", "invalid_value"),
        (
            system({"type": "tool_addition", "tool": {"type": "tool_reference", "name": "No"}}),
            "[0].tool.name",
            "invalid_value",
        ),
        (system({"type": "tool_removal"}), "[0].tool", "missing_required_parameter"),
        (
            system({"type": "tool_removal", "tool": {"type": "mcp_toolset_reference"}}),
            "[0].tool.type",
            "unsupported",
        ),
        (
            system({"type": "tool_removal", "tool": {"type": "tool_definition"}}),
            "[0].tool.type",
            "unsupported",
        ),
        (
            system({"type": "tool_addition", "tool": {"type": "tool_definition"}}),
            "[0].tool.definition",
            "missing_required_parameter",
        ),
        (
            system(
                {
                    "type": "tool_addition",
                    "tool": {"type": "tool_definition", "definition": {"name": "a b"}},
                }
            ),
            "[0].tool.definition.name",
            "invalid_value",
        ),
        ({"role": "user", "content": [{"type": "tool_addition"}]}, "[0].type", "invalid_value"),
    ],
)
def test_what_names_no_tool_is_refused_by_its_place(turn: Any, place: str, code: str) -> None:
    refusal = refused(turn)
    assert (refusal.field, refusal.code) == (f"messages[1].content{place}", code)


def test_a_tool_that_is_brought_in_twice_is_refused() -> None:
    again = {"type": "tool_definition", "definition": {"name": "ToolSearch"}}
    assert refused(system({"type": "tool_addition", "tool": again})).field == "tools"
