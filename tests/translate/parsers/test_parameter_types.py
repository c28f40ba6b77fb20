"""What types a schema gives to parameters, and which texts are values of them."""

from typing import Any

import pytest

from bessemer.translate.parsers.parameter_types import (
    ALL,
    as_json,
    parameter_types,
    text_choices,
    text_limits,
)


@pytest.mark.parametrize(
    ("schema", "types"),
    [
        ({"type": "string"}, {"string"}),
        ({"type": ["integer", "null"]}, {"integer", "null"}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"string", "null"}),
        ({"oneOf": [{"$ref": "#/$defs/N"}, {"enum": ["a", 1]}]}, {"number", "string", "integer"}),
        ({"const": True}, {"boolean"}),
        ({"enum": [1.5, [], {}]}, {"number", "array", "object"}),
        ({"$ref": "#/$defs/Loop"}, ALL),
        ({"$ref": "#/nowhere/at/all"}, ALL),
        ({"description": "x"}, ALL),
        (True, ALL),
        ({"type": 5}, ALL),
    ],
)
def test_types(schema: Any, types: set[str]) -> None:
    root = {
        "properties": {"a": schema},
        "$defs": {"N": {"type": "number"}, "Loop": {"$ref": "#/$defs/Loop"}},
    }
    found = parameter_types(root)["a"]
    assert found == types | ({"number"} if "integer" in found and "number" in found else set())


def test_a_schema_without_properties_has_none() -> None:
    for schema in (None, {}, {"properties": []}):
        assert parameter_types(schema) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "types", "shown"),
    [
        ("5", {"integer"}, "5"),
        ("5", {"number"}, "5"),
        (" 5\n", {"string", "integer"}, "5"),
        ("5", {"string"}, None),
        ("5.5", {"integer"}, None),
        ("true", {"integer"}, None),
        ("True", {"boolean"}, "true"),
        ("None", {"null", "string"}, "null"),
        ("null", {"string"}, None),
        ('["a"]', {"array"}, '["a"]'),
        ('{"a":1}', {"array"}, None),
        ('"a"', ALL, None),  # a string as it stands
        ("a", ALL, None),
        ("", ALL, None),
    ],
)
def test_a_text_is_a_value_of_a_type_or_a_string(text: str, types: Any, shown: Any) -> None:
    assert as_json(text, frozenset(types)) == shown


def test_what_texts_are_left_to_choose_from_and_what_limits_others() -> None:
    color = {"enum": ["red", "blue"]}
    root = {"$defs": {"color": color, "id": {"pattern": "a"}, "loop": {"$ref": "#/$defs/loop"}}}
    for schema in (color, {"$ref": "#/$defs/color"}, {"allOf": [{"$ref": "#/$defs/color"}]}):
        assert text_choices(schema, root) == ["red", "blue"]
    assert text_choices({"anyOf": [color, {"const": "x"}]}, root) == ["red", "blue", "x"]
    for free in ({"anyOf": [color, {"type": "string"}]}, {"$ref": "#/$defs/loop"}, {}, True):
        assert text_choices(free, root) is None and not text_limits(free, root)
    limited = {"anyOf": [{"$ref": "#/$defs/id"}], "minLength": 1}
    assert text_limits(limited, root) == {"minLength", "pattern"}
