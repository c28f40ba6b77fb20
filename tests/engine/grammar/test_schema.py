"""Schemas that only an endless document fulfils, and those that look like them."""

from typing import Any

import pytest

from bessemer.engine.grammar.schema import is_endless

LIST: Any = {
    "type": "object",
    "properties": {"next": {"$ref": "#/$defs/a"}},
    "required": ["next"],
}
NODE: Any = {"$ref": "#/$defs/a"}
INT = {"type": "integer"}
PATTERNED: Any = {"type": "object", "required": ["ab"]}


def defined(schema: Any, **defs: Any) -> Any:
    return schema | {"$defs": defs}


ENDLESS = {
    "of a listed type": {"type": ["object"], "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    "of two types": {
        "type": ["object", "array"],
        "properties": {"a": {"$ref": "#"}},
        "required": ["a"],
        "items": {"$ref": "#"},
        "minItems": 1,
    },
    "by another name": {"type": "object", "required": ["a"], "additionalProperties": {"$ref": "#"}},
    "by any name": {"type": "object", "minProperties": 1, "additionalProperties": {"$ref": "#"}},
    "itself": {"$ref": "#"},
    "a circle": defined(NODE, a={"$ref": "#/$defs/b"}, b=NODE),
    "a required member": defined(NODE, a=LIST),
    "a required member of another": defined(
        {"type": "object", "properties": {"x": NODE}, "required": ["x"]}, a=LIST
    ),
    "an item": {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    "an item behind others": {
        "type": "array",
        "prefixItems": [INT],
        "items": {"$ref": "#"},
        "minItems": 2,
    },
    "a first item": {"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": 1},
    "each choice": defined(NODE, a={"anyOf": [LIST, {"$ref": "#"}]}),
    "one of all": defined(NODE, a={"allOf": [INT, LIST]}),
    "escaped": {"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": {"$ref": "#"}}},
    "by an anchor": {"$ref": "#foo", "$defs": {"a": LIST | {"$anchor": "foo"}, "b": LIST}},
    "by an anchor of its own": {"$anchor": "foo", "$ref": "#foo"},
    "by its own address": {"$id": "http://x.org/a.json", "$ref": "http://x.org/a.json"},
    "by the end of its address": {"$id": "http://x.org/a.json", "$ref": "a.json#"},
    "by a place at its address": {"$id": "urn:a", "$ref": "urn:a#/$defs/a", "$defs": {"a": LIST}},
    "by an anchor at its address": {"$id": "a.json", "$ref": "a.json#foo", "$anchor": "foo"},
    "by a pattern": PATTERNED | {"patternProperties": {"^a": {"$ref": "#"}}},
    "by a property and a pattern": PATTERNED
    | {"properties": {"ab": {}}, "patternProperties": {"b$": {"$ref": "#"}}},
    "by none of the patterns": PATTERNED
    | {"patternProperties": {"^x": {}}, "additionalProperties": {"$ref": "#"}},
}
FINITE = {
    "or null": {"type": ["object", "null"], "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    "of no type": {"properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    "any names": {"type": "object", "additionalProperties": {"$ref": "#"}},
    "a name and others": {
        "type": "object",
        "properties": {"a": {}},
        "required": ["a"],
        "additionalProperties": {"$ref": "#"},
    },
    "true": True,
    "no object": 5,
    "a tree": {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}}},
    "one choice": defined(NODE, a={"anyOf": [LIST, {"type": "null"}]}),
    "one choice, the other way": defined(
        NODE,
        a={"anyOf": [{"$ref": "#/$defs/b"}, INT]},
        b={"type": "object", "properties": {"x": NODE}, "required": ["x"]},
    ),
    "the same twice": defined(
        {"type": "object", "properties": {"x": NODE, "y": NODE}, "required": ["x", "y"]}, a=INT
    ),
    "what is not required": defined(
        NODE, a={"type": "object", "properties": {"next": NODE}, "required": ["other"]}
    ),
    "any type": defined(NODE, a={"properties": {"next": NODE}, "required": ["next"]}),
    "a type beside": defined(NODE, a=LIST | {"type": ["object", "null"]}),
    "a constant": {"const": 5, "$ref": "#"},
    "nothing known": {"$ref": "http://example.com/other.json"},
    "an anchor": {"$ref": "#foo", "$defs": {"a": {"$anchor": "foo", "type": "integer"}}},
    "an anchor of another document": {
        "$ref": "#foo",
        "$defs": {"a": {"$id": "b.json", "$anchor": "foo", "$ref": "#foo"}},
    },
    "an anchor that is a value": {"$ref": "#foo", "examples": [{"$anchor": "foo", "$ref": "#foo"}]},
    "another address": {"$id": "http://x.org/a.json", "$ref": "b.json"},
    "no address": {"$id": "http://x.org/a.json", "$ref": "http://["},
    "another pattern": PATTERNED | {"patternProperties": {"^b": {"$ref": "#"}}},
    "a pattern before others": PATTERNED
    | {"patternProperties": {"^a": {}}, "additionalProperties": {"$ref": "#"}},
    "a pattern that may be dear": PATTERNED
    | {"patternProperties": {"^(a|b)+$": INT}, "additionalProperties": {"$ref": "#"}},
    "too many patterns": PATTERNED
    | {"patternProperties": {f"{i}": {} for i in range(1001)} | {"^a": {"$ref": "#"}}},
    "no pattern": PATTERNED
    | {"patternProperties": {"[": INT}, "additionalProperties": {"$ref": "#"}},
    "nothing there": {"$ref": "#/$defs/x"},
    "by number": {"$ref": "#/anyOf/0", "anyOf": [INT]},
    "senseless parts": {
        "type": "object",
        "properties": {"a": {"$ref": "#"}},
        "required": [["a"], 5, {}],
    },
    "less than no items": {"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": -1},
    "no items": {"type": "array", "items": {"$ref": "#"}, "minItems": 0},
}


@pytest.mark.parametrize("name", ENDLESS)
def test_an_endless_schema_is_told(name: str) -> None:
    assert is_endless(ENDLESS[name])


@pytest.mark.parametrize("name", FINITE)
def test_what_can_end_is_not_endless(name: str) -> None:
    assert not is_endless(FINITE[name])


def test_long_chains_are_followed_and_too_long_ones_are_said() -> None:
    def chain(count: int) -> Any:
        defs: Any = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(count)}
        return {"$ref": "#/$defs/d0", "$defs": defs | {f"d{count}": INT}}

    assert not is_endless(chain(100))
    with pytest.raises(RecursionError):
        is_endless(chain(10_000))


def test_references_that_end_by_each_other_are_found() -> None:
    """Each is known to end only when the one after it is, and all look at the first before."""
    count = 8
    defs: Any = {
        f"d{i}": {
            "type": "object",
            "properties": {"back": {"anyOf": [{"$ref": "#/$defs/d0"}, {"$ref": f"#/$defs/e{i}"}]}},
            "required": ["back"],
        }
        for i in range(count)
    }
    ends: Any = {f"e{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(count - 1)}
    schema = {"$ref": "#/$defs/d0", "$defs": defs | ends | {f"e{count - 1}": INT}}
    assert not is_endless(schema)
