"""Bounds and multiples of JSON schemas that llguidance alone answers wrongly, or dies of."""

import json
from typing import Any

import pytest

from bessemer.engine.grammar.bounds import (
    FARTHEST,
    BoundError,
    embedded,
    lark_within_reach,
    within_reach,
)
from bessemer.engine.grammar.definition import grammar_of
from bessemer.engine.request import Constraint, Grammar
from tests.engine.grammar.spelling import accepts


def accepted(grammar: Grammar, definition: str, text: str) -> bool:
    constraint = Constraint(grammar=grammar, definition=definition)
    return accepts(grammar_of(constraint, None, {}, lambda _: True), text)


INTEGER = {"type": "integer"}


@pytest.mark.parametrize("grammar", ["json_schema", "lark", "gbnf"])
@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        (INTEGER | {"minimum": -(2**63), "maximum": 2**63 - 1}, "-7", "1" * 30),
        (INTEGER | {"minimum": 0, "maximum": 2**64 - 1}, "12", "-1"),
        (INTEGER | {"exclusiveMinimum": -1e31, "exclusiveMaximum": 1e31}, "12", "1" * 40),
        (INTEGER | {"minimum": 2**53 + 1, "maximum": 2**53 + 9}, str(2**53 + 2), str(2**53)),
        (INTEGER | {"minimum": -(2**53) - 9, "maximum": -(2**53) - 1}, str(-(2**53) - 2), "-1"),
        ({"type": "number", "minimum": 0, "maximum": 1e300}, "0.5", "-1"),
        ({"type": "number", "minimum": 0.1, "maximum": 0.3}, "0.3", "0.31"),
    ],
)
def test_far_bounds_are_kept_to(grammar: Grammar, schema: Any, right: str, wrong: str) -> None:
    text = json.dumps(schema)
    definition = text if grammar == "json_schema" else f"start: %json {text}"
    assert accepted(grammar, definition, right) and not accepted(grammar, definition, wrong)


BEYOND = [
    INTEGER | {"minimum": -1e31, "maximum": -1e30},
    INTEGER | {"minimum": -(2**63), "maximum": -(2**63)},
    INTEGER | {"exclusiveMinimum": 2**63 - 1},
    {"type": "number", "minimum": 1e30},
    INTEGER | {"multipleOf": 999_983},
    INTEGER | {"allOf": [{"multipleOf": each} for each in (257, 263, 269)]},
    {"properties": {"a": {"items": {"anyOf": [{"multipleOf": 1e-9}, {"multipleOf": 7}]}}}},
]


@pytest.mark.parametrize("schema", BEYOND)
def test_what_cannot_be_followed_is_named(schema: Any) -> None:
    for where in (schema, {"$defs": {"minimum": schema}}, [schema]):
        with pytest.raises(BoundError, match="beyond what can be followed"):
            within_reach(where)
    with pytest.raises(BoundError):
        lark_within_reach(f'start: a | %json{{"const": 1}}\na: %json {json.dumps(schema)}')


def test_multiples_of_values_apart_do_not_add_up() -> None:
    """Each of two properties has its own states; those of a value with two schemas multiply."""
    apart = {name: {"multipleOf": each} for name, each in (("a", 257), ("b", 263), ("c", 0.7))}
    assert within_reach({"properties": apart}) == {"properties": apart}
    with pytest.raises(BoundError):
        within_reach(
            {"properties": {"a": {"$ref": "#/$defs/x", "multipleOf": 257}}, "$defs": apart}
        )


def test_a_lenient_schema_loses_what_cannot_be_followed() -> None:
    guidance = {"x-guidance": {"lenient": True}}
    far = {"minimum": 1e30, "maximum": 5, "multipleOf": 65537, "properties": {"minimum": {}}}
    left = {"maximum": 5, "properties": {"minimum": {}}}
    assert within_reach(far | guidance) == left | guidance
    near = {"minimum": 1, "multipleOf": 2, "maximum": True, "const": {"multipleOf": 10**9}}
    near |= {"minLength": 2, "maxItems": 10**9}
    assert within_reach(near | guidance) == near | guidance
    lark = f"start: %json {json.dumps(far | guidance)}"
    assert lark_within_reach(lark) == f"start: %json {json.dumps(left | guidance)}"


def test_a_lenient_schema_loses_patterns_that_look_around() -> None:
    guidance = {"x-guidance": {"lenient": True}}
    patterns = ["^(?=.*a)b", r"(a)\1", "^a$", "(", "(?<!a)b"]
    schema = {"properties": {"pattern": {}, **{p: {"pattern": p} for p in patterns}}}
    left = {"properties": {"pattern": {}, **{p: {} for p in patterns}}}
    left["properties"] |= {p: {"pattern": p} for p in ("^a$", "(")}
    assert within_reach(schema | guidance) == left | guidance
    assert within_reach(schema) == schema


def test_names_and_values_are_no_bounds() -> None:
    far: Any = {"minimum": 1e30, "multipleOf": 10**9, "a": -(10**40)}
    schema: Any = {"properties": {"minimum": {"const": far}, "enum": {"minimum": -(2**70)}}}
    within = within_reach(schema)
    assert within["properties"] == {"minimum": {"const": far}, "enum": {"minimum": -FARTHEST}}
    odd: Any = {"minimum": True, "maximum": "9", "multipleOf": 0.01, "enum": [1e30]}
    assert within_reach(odd) == odd and within_reach(True) is True


def test_a_lark_grammar_is_otherwise_as_it_stands() -> None:
    assert embedded('a: %json {"a": 1} "b"\nb: %json {"c": {"d": {}}}\nc: %json {') == [
        {"a": 1}, {"c": {"d": {}}},
    ]  # fmt: skip
    near = 'start: "%json {" x y\nx: %json {"minimum" : 1.50}\ny: %json {"minimum": '
    assert lark_within_reach(near) == near
    changed = lark_within_reach(near + "-1e31}\nz: /%json {}/")
    assert changed == near + f"{-FARTHEST}" + "}\nz: /%json {}/"
