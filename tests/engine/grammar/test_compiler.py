"""Compiled grammars: what a caller is told of those that cannot be had, and the bounds."""

import json
from typing import Any

import pytest

from bessemer.engine.grammar.compiler import SHOWN
from bessemer.engine.request import Constraint, Grammar, Refusal
from tests.engine.paper_model import compiler


def refusal(grammar: Grammar, definition: str) -> Refusal:
    constraint = Constraint(grammar=grammar, definition=definition, field="guided_json")
    with pytest.raises(Refusal) as caught:
        compiler().compile(constraint, None)
    return caught.value


# What a schema asks for -> the words of the refusal that name it.
SCHEMAS: dict[str, tuple[Any, str]] = {
    "not": ({"not": {"type": "string"}}, '"not"'),
    "uniqueItems": ({"type": "array", "uniqueItems": True}, '"uniqueItems"'),
    "if": ({"if": {}, "then": {}}, '"if", "then"'),
    "oneOf": ({"oneOf": [{"type": "string"}, {"minLength": 3}]}, '"oneOf"'),
    "format": ({"type": "string", "format": "shoe-size"}, '"format"'),
    "impossible": ({"type": "integer", "minimum": 5, "maximum": 3}, "nothing fulfils"),
    "no values": ({"enum": []}, "nothing fulfils"),
    "itself": ({"$ref": "#"}, "endless"),
    "nowhere": ({"$ref": "#/$defs/x"}, "/$defs/x"),
    "type": ({"type": "strin"}, "strin"),
    "look-around": ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
    "many symbols": (
        {"allOf": [{"anyOf": [{"properties": {f"p{i}{j}": {}}} for j in "ab"]} for i in range(16)]},
        "too large",
    ),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_cannot_be_kept_to_is_named(name: str) -> None:
    schema, words = SCHEMAS[name]
    refused = refusal("json_schema", json.dumps(schema))
    assert (refused.status, refused.code, refused.field) == (400, "invalid_grammar", "guided_json")
    assert refused.message.startswith("guided_json ") and words in refused.message
    assert len(refused.message) < SHOWN + 60 and "\n" not in refused.message


@pytest.mark.parametrize(
    ("grammar", "definition"),
    [
        ("regex", "("),
        ("lark", "start: foo"),
        ("lark", 'x: "a"'),
        ("lark", "start: start"),
        ("gbnf", "root ::= nothere"),
        ("choice", "[]"),
        ("lark", 'start: "\x01é' + "x" * 5000),
    ],
)
def test_other_mistakes_are_refused_in_one_line(grammar: Grammar, definition: str) -> None:
    refused = refusal(grammar, definition)
    assert (refused.status, refused.field) == (400, "guided_json")
    assert len(refused.message) < SHOWN + 60 and "\n" not in refused.message


def test_a_schema_inside_a_grammar_is_told_of_without_the_grammar() -> None:
    refused = refusal("lark", 'start: %json {"type":"object","required":[["a"]]}')
    assert "has a schema that is not valid: Expected string" in refused.message
    assert "start" not in refused.message


def test_a_schema_that_need_not_be_kept_to_is_not_to_blame() -> None:
    lenient = {"type": "string", "not": {}, "x-guidance": {"lenient": True}}
    lark = f"start: x y\nx: %json {json.dumps(lenient)}\n" + 'y: %json {"not": {}}'
    fields = "tools[0].function.parameters", "tools[1].function.parameters"
    with pytest.raises(Refusal) as caught:
        compiler().compile(
            Constraint(grammar="lark", definition=lark, field="tools", fields=fields), None
        )
    assert caught.value.field == fields[1]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"not": {}}, '"not"'),
        ({"$ref": "#"}, "endless"),
        ({"type": "integer", "minimum": 1e30}, '"minimum"'),
        ({"$ref": "http://example.org/x"}, "not here: http://example.org/x"),
    ],
)
def test_of_several_schemas_the_field_that_is_to_blame_is_named(schema: Any, words: str) -> None:
    schemas = {"x": {"const": '%json {"a": 1'}, "y": {"type": "string"}, "z": schema}
    rules = "\n".join(f"{name}: %json {json.dumps(each)}" for name, each in schemas.items())
    lark = f"start: x y z\n{rules}"
    fields = "tools[0].function.parameters", "tools[1].function.parameters", "response_format"
    constraint = Constraint(grammar="lark", definition=lark, field="tools", fields=fields)
    with pytest.raises(Refusal, match=words) as caught:
        compiler().compile(constraint, None)
    assert caught.value.field == "response_format"
    lark = lark.replace(json.dumps(schema), "{}").replace("x y", "x y +?")
    with pytest.raises(Refusal) as caught:
        compiler().compile(
            Constraint(grammar="lark", definition=lark, field="tools", fields=fields), None
        )
    assert caught.value.field == "tools", "the grammar around them is at fault"


@pytest.mark.parametrize(
    "schema",
    [
        {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "object", "properties": {"a": {"type": "string", "title": "A", "default": "x"}}},
        {"type": "string", "format": "date-time"},
        {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(100)}},
        {"type": "number", "multipleOf": 0.5, "minimum": -1, "exclusiveMaximum": 9},
        {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/a"}], "$defs": {"a": {"const": 1.5}}},
    ],
)
def test_what_can_be_kept_to_is_taken(schema: Any) -> None:
    constraint = Constraint(grammar="json_schema", definition=json.dumps(schema))
    matcher = compiler().compile(constraint, None)
    assert not matcher.is_error() and not matcher.is_stopped()
