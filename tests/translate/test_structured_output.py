"""Each way to ask for a form of an answer, by its client's own spelling."""

import json
from typing import Any

import pytest

from bessemer.engine.request import MAX_DEFINITION, Refusal
from bessemer.translate import anthropic_request, openai_chat, openai_completions
from bessemer.translate.chat import ResponseFormat

HI = [{"role": "user", "content": "Hi"}]
# A document's own order and spacing, which are kept.
SCHEMA = '{"type": "object", "properties": {"z": {"type":"integer"}, "a": {}}, "required": ["z"]}'


def decoded(fields: str, dialect: str = "chat") -> ResponseFormat | None:
    """Decode a request with these fields, which are JSON without its braces."""
    base = {
        "chat": (openai_chat.decode_request, {"messages": HI}),
        "completions": (openai_completions.decode_request, {"prompt": "Hi"}),
        "messages": (anthropic_request.decode_request, {"messages": HI, "max_tokens": 9}),
    }
    decode, rest = base[dialect]
    body = json.dumps({"model": "m"} | rest)[:-1] + "," + fields + "}"
    return decode(body.encode()).response_format


def asked(kind: str, definition: str, field: str, strict: bool = True) -> ResponseFormat:
    return ResponseFormat(kind, definition, strict, field)  # type: ignore[arg-type]


NAMED = '{"type":"json_schema","json_schema":{"name":"x",%s"schema":' + SCHEMA + "}}"
WAYS: list[tuple[str, ResponseFormat | None]] = [
    ('"response_format":null', None),
    ('"response_format":{"type":"text"}', None),
    ('"response_format":{"type":"json_object"}', asked("json_object", "", "response_format")),
    (
        f'"response_format":{{"type":"json_object","schema":{SCHEMA}}}',
        asked("json_schema", SCHEMA, "response_format", strict=False),
    ),
    (
        f'"response_format":{NAMED % ""}',
        asked("json_schema", SCHEMA, "response_format", strict=False),
    ),
    (
        '"response_format":' + NAMED % '"strict":true,',
        asked("json_schema", SCHEMA, "response_format"),
    ),
    (
        f'"response_format":{{"type":"json_schema","schema":{SCHEMA}}}',
        asked("json_schema", SCHEMA, "response_format", strict=False),
    ),
    (f'"response_format":{SCHEMA}', asked("json_schema", SCHEMA, "response_format")),
    (
        '"response_format":{"anyOf":[{"type":"null"}]}',
        asked("json_schema", '{"anyOf":[{"type":"null"}]}', "response_format"),
    ),
    (
        '"response_format":{"type":["object","null"]}',
        asked("json_schema", '{"type":["object","null"]}', "response_format"),
    ),
    (f'"guided_json":{SCHEMA}', asked("json_schema", SCHEMA, "guided_json")),
    (f'"guided_json":{json.dumps(SCHEMA)}', asked("json_schema", SCHEMA, "guided_json")),
    (f'"json_schema":{SCHEMA}', asked("json_schema", SCHEMA, "json_schema")),
    ('"guided_regex":"a+"', asked("regex", "a+", "guided_regex")),
    ('"regex":"a+"', asked("regex", "a+", "regex")),
    ('"guided_choice":["é","b"]', asked("choice", '["é","b"]', "guided_choice")),
    ('"guided_grammar":"root ::= x"', asked("gbnf", "root ::= x", "guided_grammar")),
    ('"grammar":"root ::= x"', asked("gbnf", "root ::= x", "grammar")),
    ('"grammar_string":"root ::= x"', asked("gbnf", "root ::= x", "grammar_string")),
    ('"ebnf":"root ::= x"', asked("gbnf", "root ::= x", "ebnf")),
    ('"grammar":"","regex":null,"guided_json":null', None),
    (
        f'"structured_outputs":{{"json":{SCHEMA}}}',
        asked("json_schema", SCHEMA, "structured_outputs.json"),
    ),
    (
        f'"structured_outputs":{{"json":{json.dumps(SCHEMA)}}}',
        asked("json_schema", SCHEMA, "structured_outputs.json"),
    ),
    ('"structured_outputs":{"regex":"a"}', asked("regex", "a", "structured_outputs.regex")),
    (
        '"structured_outputs":{"choice":["a"]}',
        asked("choice", '["a"]', "structured_outputs.choice"),
    ),
    ('"structured_outputs":{"grammar":"x"}', asked("gbnf", "x", "structured_outputs.grammar")),
    (
        '"structured_outputs":{"json_object":true}',
        asked("json_object", "", "structured_outputs.json_object"),
    ),
    ('"structured_outputs":{"json_object":false}', None),
    ('"structured_outputs":{}', None),
]


@pytest.mark.parametrize("dialect", ["chat", "completions", "messages"])
@pytest.mark.parametrize(("fields", "format"), WAYS)
def test_each_way_says_the_same(fields: str, format: ResponseFormat | None, dialect: str) -> None:
    assert decoded(fields, dialect) == format


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        (
            f'"output_config":{{"format":{{"type":"json_schema","schema":{SCHEMA}}}}}',
            "output_config.format",
        ),
        (f'"output_format":{{"type":"json_schema","schema":{SCHEMA}}}', "output_format"),
    ],
)
def test_anthropic_has_a_way_of_its_own(fields: str, field: str) -> None:
    assert decoded(fields, "messages") == asked("json_schema", SCHEMA, field)
    assert decoded('"output_config":{"format":null,"effort":"low"}', "messages") is None


WRONG = [
    ("chat", '"response_format":5', "response_format"),
    ("chat", '"response_format":"json_object"', "response_format"),
    ("chat", '"response_format":{"type":"yaml"}', "response_format.type"),
    ("chat", '"response_format":{"type":5}', "response_format.type"),
    ("chat", '"response_format":{"type":"json_schema"}', "response_format.json_schema.schema"),
    (
        "chat",
        '"response_format":{"type":"json_schema","json_schema":{"name":"x"}}',
        "response_format.json_schema.schema",
    ),
    (
        "chat",
        '"response_format":{"type":"json_schema","json_schema":5}',
        "response_format.json_schema.schema",
    ),
    ("chat", '"guided_regex":5', "guided_regex"),
    ("chat", '"guided_choice":[]', "guided_choice"),
    ("chat", '"guided_choice":[5]', "guided_choice[0]"),
    ("chat", '"guided_regex":"a","guided_choice":["a"]', "guided_choice"),
    ("chat", '"structured_outputs":{"regex":"a","json":{}}', "structured_outputs.regex"),
    ("chat", '"response_format":{"type":"json_object"},"grammar":"x"', "grammar"),
    ("chat", f'"guided_regex":"{"a" * (MAX_DEFINITION + 1)}"', "guided_regex"),
    ("messages", '"output_config":{"format":{"type":"json"}}', "output_config.format.type"),
    ("messages", '"output_format":{"type":"json_schema","schema":{}},"regex":"a"', "regex"),
    (
        "messages",
        '"output_config":{"format":{"type":"json_schema"}}',
        "output_config.format.schema",
    ),
]


def test_a_beginning_that_is_gone_on_from_has_no_form_of_its_own_at_anthropics() -> None:
    turns = [*HI, {"role": "assistant", "content": "{"}]
    body = {"model": "m", "max_tokens": 9, "messages": turns, "guided_regex": "a"}
    with pytest.raises(Refusal) as caught:
        anthropic_request.decode_request(json.dumps(body).encode())
    assert caught.value.field == "guided_regex"


@pytest.mark.parametrize(("dialect", "fields", "field"), WRONG)
def test_a_mistake_is_named(dialect: str, fields: str, field: str) -> None:
    with pytest.raises(Refusal) as caught:
        decoded(fields, dialect)
    refusal: Any = caught.value
    assert (refusal.status, refusal.field) == (400, field)
    assert field in refusal.message and len(refusal.message) < 300
