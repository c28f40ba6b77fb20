"""Answers held to a form, asked of the whole server by the official packages (H5.15)."""

import json
import re
from typing import Any, Literal

import anthropic
import jsonschema
import openai
import pytest
from pydantic import BaseModel

from tests.http.running import Server

MODEL = "bessemer-guide"
MESSAGES: list[Any] = [{"role": "user", "content": "How do I serve a model?"}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "zone": {"enum": ["east", "west"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "all": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["zone", "count", "all"],
    "additionalProperties": False,
}


class Part(BaseModel):
    kind: Literal["gear", "bolt"]
    size: Literal[1, 2] | None


class Machine(BaseModel):
    ready: bool
    parts: tuple[Part, Part]


def test_the_package_parses_its_own_models(client: openai.OpenAI) -> None:
    reply = client.chat.completions.parse(
        model=MODEL, messages=MESSAGES, response_format=Machine, temperature=1.0, seed=3
    )
    machine = reply.choices[0].message.parsed
    assert isinstance(machine, Machine) and len(machine.parts) == 2
    assert reply.choices[0].finish_reason == "stop"
    with client.chat.completions.stream(
        model=MODEL, messages=MESSAGES, response_format=Machine, temperature=1.0, seed=3
    ) as stream:
        streamed = stream.get_final_completion()
    assert streamed.choices[0].message.parsed == machine


def test_a_schema_holds_each_choice_and_its_order(client: openai.OpenAI) -> None:
    format: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    reply = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, response_format=format, n=4, temperature=1.5, seed=1
    )
    said = [choice.message.content or "" for choice in reply.choices]
    for text in said:
        document = json.loads(text)
        jsonschema.validate(document, SCHEMA)
        assert [*document] == ["zone", "count", "all"]
    assert len(set(said)) > 1 and {c.finish_reason for c in reply.choices} == {"stop"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        ({"guided_regex": "[a-c]{2}-[0-9]{2}"}, "[a-c]{2}-[0-9]{2}"),
        ({"guided_choice": ["maybe", "no, never"]}, "maybe|no, never"),
        ({"grammar": 'root ::= "<" [x-z]{1,9} ">" | "none"'}, "<[x-z]+>|none"),
        ({"structured_outputs": {"grammar": 'start: "a" /b{1,3}/ "c"'}}, "ab{1,3}c"),
        ({"guided_json": {"type": "boolean"}}, "true|false"),
    ],
)
def test_other_forms_hold_in_both_dialects(
    server: Server, path: str, fields: dict[str, Any], pattern: str
) -> None:
    asked = {"messages": MESSAGES} if "chat" in path else {"prompt": "How do I"}
    body = {"model": MODEL, "max_tokens": 200, "temperature": 0} | asked | fields
    status, reply, _ = server.ask("POST", path, body)
    assert status == 200, reply
    choice = reply["choices"][0]
    text = choice["message"]["content"] if "chat" in path else choice["text"]
    assert choice["finish_reason"] == "stop" and re.fullmatch(pattern, text, re.DOTALL)


def test_any_object_is_one(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, response_format={"type": "json_object"}, temperature=0
    )
    assert isinstance(json.loads(reply.choices[0].message.content or ""), dict)


def test_a_message_of_anthropics_is_held_too(claude: anthropic.Anthropic) -> None:
    config: Any = {"format": {"type": "json_schema", "schema": SCHEMA}}
    reply = claude.messages.create(
        model=MODEL, max_tokens=200, messages=MESSAGES, output_config=config
    )
    (block,) = reply.content
    assert isinstance(block, anthropic.types.TextBlock) and reply.stop_reason == "end_turn"
    jsonschema.validate(json.loads(block.text), SCHEMA)


def test_an_answer_that_is_cut_off_is_json_as_far_as_it_goes(client: openai.OpenAI) -> None:
    format: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    whole, cut = (
        client.chat.completions.create(
            model=MODEL, messages=MESSAGES, response_format=format, max_tokens=most, temperature=0
        ).choices[0]
        for most in (200, 8)
    )
    assert cut.finish_reason == "length" and whole.finish_reason == "stop"
    assert cut.message.content and (whole.message.content or "").startswith(cut.message.content)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"not": {"type": "string"}}, '"not"'),
        ({"type": "array", "uniqueItems": True}, '"uniqueItems"'),
        ({"type": "integer", "minimum": 2, "maximum": 1}, "nothing fulfils"),
        ({"$ref": "#"}, "endless"),
    ],
)
def test_what_cannot_be_kept_to_is_a_400_that_names_it(
    client: openai.OpenAI, schema: Any, words: str, stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model=MODEL, messages=MESSAGES, stream=stream, extra_body={"guided_json": schema}
        )
    body: Any = caught.value.body
    assert words in body["message"] and body["param"] == "guided_json"
    reply = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=3)
    assert reply.choices[0].message.content, "the model goes on"
