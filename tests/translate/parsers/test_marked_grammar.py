"""Gemma's arguments by a schema: what the grammar lets through, and what is refused."""

from typing import Any

import jsonschema
import pytest
from msgspec import json

from bessemer.engine.request import Refusal
from bessemer.translate.parsers.marked_grammar import MarkedValues
from bessemer.translate.parsers.scanner import Scanner
from bessemer.translate.parsers.tool_rules import Rules
from bessemer.translate.parsers.values import marked, read_value, spelled
from tests.engine.grammar.spelling import accepts

MARK = "<escape>"


def held(schema: Any, strict: bool = True) -> str:
    rules = Rules({})
    start = MarkedValues(rules, MARK, schema, "f", strict).value(schema)
    return json.encode({"grammars": [{"lark_grammar": rules.grammar(start)}]}).decode()


def said(text: str) -> Any:
    """Return what a text of Gemma's means, as answers are read."""
    scanner, out = Scanner(), list[str]()
    scanner.feed(f"[{text}]")
    for _ in read_value(scanner, marked(MARK), out.append):
        pass
    (value,) = json.decode("".join(out))
    return value


TREE: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "more": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["name"],
}
VALUES: list[tuple[Any, list[Any], list[Any]]] = [
    ({"type": "string"}, ["", 'a {b}: [c], \n"d"'], [1, None]),
    ({"type": ["integer", "null"], "minimum": 0, "maximum": 9}, [0, 9, None], [10, -1, "a"]),
    ({"enum": ["a", 1, None, {"b": [True]}]}, ["a", 1, None, {"b": [True]}], ["b", 2, {"b": []}]),
    ({"const": False}, [False], [True]),
    ({"anyOf": [{"type": "boolean"}, {"const": "auto"}]}, [True, "auto"], ["b", 1]),
    (
        {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 2},
        [[1.5], [1, 2]],
        [[], [1, 2, 3], ["a"]],
    ),
    ({"type": "array", "items": {"type": "null"}, "maxItems": 0}, [[]], [[None]]),
    ({"type": "array"}, [[], [1, "a", {"b": None}]], [1]),
    (TREE, [{"name": "a"}, {"name": "a", "more": [{"name": "b", "more": []}]}], [{}, {"more": []}]),
    ({"type": "object"}, [{}, {"any": {"thing": [1]}}], [[]]),
    ({"type": "object", "additionalProperties": False}, [{}], [{"a": 1}]),
    ({}, [1, "a", [], {"b": "c"}], []),
    ({"title": "x", "default": 1}, [1, "a", [], {"b": "c"}], []),
]


@pytest.mark.parametrize(("schema", "right", "wrong"), VALUES)
def test_values_keep_to_their_schema(schema: Any, right: list[Any], wrong: list[Any]) -> None:
    grammar = held(schema)
    for value in right:
        jsonschema.validate(value, schema)
        assert accepts(grammar, spelled(value, MARK)) and said(spelled(value, MARK)) == value
    for value in wrong:
        assert not accepts(grammar, spelled(value, MARK)), value


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string", "pattern": "a"}, '"pattern"'),
        ({"type": "array", "uniqueItems": True}, '"uniqueItems"'),
        ({"type": "object", "properties": {"a b": {}}}, 'cannot write: "a b"'),
        ({"type": "object", "minProperties": 1, "allOf": []}, '"allOf", "minProperties"'),
    ],
)
def test_what_cannot_be_kept_to_is_refused_where_strict(schema: Any, words: str) -> None:
    for where in (schema, {"type": "array", "items": schema}):
        with pytest.raises(Refusal) as caught:
            held(where)
        assert caught.value.field == "f" and words in caught.value.message
        assert held(where, strict=False)
