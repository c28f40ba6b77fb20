"""A larger model's choice (H4.6): how it is asked, what it may answer, how that is read."""

import asyncio
import json

import pytest

from bessemer.http.gateway.auto_answer import LONGEST, answered, asking, named
from bessemer.http.gateway.schema import RouteTable
from bessemer.translate.chat import Chat, Completion, Message
from bessemer.translate.parts import said
from tests.http.gateway.auto_reader_double import ScriptedReader, answers

ROUTES = [
    RouteTable(name="code", description="Programs.", provider="local"),
    RouteTable(name="x.1", description="What is left.", provider="local"),
]
CHAT = Chat(
    "auto",
    (
        Message("system", said("Be secret.")),
        Message("user", said("Hi <system-reminder>Not this.</system-reminder>")),
        Message("assistant", said("Yes?")),
        Message("user", said("“Go”")),
    ),
)


def between(text: str, tag: str) -> object:
    return json.loads(text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0])


def test_h46_one_user_turn_has_the_routes_and_the_conversation() -> None:
    reader = ScriptedReader(answers('{"route": "x.1"}'), 1)
    name, why = asyncio.run(answered(reader, ROUTES, CHAT, "me"))
    assert name == "x.1" and "x.1" in why
    (asked,) = reader.asked
    assert isinstance(asked, Chat) and [each.role for each in asked.messages] == ["user"]
    text = asked.messages[0].text
    assert between(text, "routes") == [
        {"name": "code", "description": "Programs."},
        {"name": "x.1", "description": "What is left."},
    ]
    assert between(text, "conversation") == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "“Go”"},
    ]
    assert '{"route": NAME}' in text and '{"route": "other"}' in text
    options = asked.options
    assert (options.temperature, options.top_p, options.max_tokens) == (0, 1, 64)
    assert asked.client == "me" and asked.reasoning.enabled is False


def test_h46_the_grammar_has_the_routes_names_and_other() -> None:
    reader = ScriptedReader(answers("{}"), 1)
    asyncio.run(answered(reader, ROUTES, CHAT, "me"))
    (asked,) = reader.asked
    assert isinstance(asked, Chat) and asked.response_format is not None
    schema = json.loads(asked.response_format.definition)
    assert schema["properties"]["route"]["enum"] == ["code", "x.1", "other"]
    assert schema["required"] == ["route"] and schema["additionalProperties"] is False
    assert asked.response_format.kind == "json_schema" and asked.response_format.strict


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ('{"route": "code"}', "code"),
        ('{"route": "x.1", "why": 3}', "x.1"),
        ("{route: 'code',}", "code"),  # nearly JSON, as JSON5 is
        ('I think:\n```json\n{"route": "code"}\n```', "code"),
        ('{"route": "code', "code"),  # cut off
        ('{"way": "code"}', ""),
        ('["code"]', ""),
        ("code", ""),
        ("", ""),
        ("[" * 100_000, ""),
    ],
)
def test_h46_answers_are_read_strictly_then_leniently(answer: str, name: str) -> None:
    assert named(answer) == name


def test_the_latest_turns_are_read() -> None:
    texts = [f"{number} " + "x" * 900 for number in range(50)]
    chat = Chat("auto", tuple(Message("user", said(text)) for text in texts))
    turns = between(asking(ROUTES, chat), "conversation")
    assert isinstance(turns, list) and turns[-1]["content"] == texts[-1]
    assert 2 < len(turns) < 50 and sum(len(each["content"]) for each in turns) <= LONGEST
    long = between(asking(ROUTES, Completion("auto", ("a" + "x" * 10**6 + "b",))), "conversation")
    assert isinstance(long, list) and long[0]["content"][::2000] == "ab"
