"""The JSON types that a tool's parameters may have, by its schema."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import json

ALL = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})
MAX_DEPTH = 16  # references and choices within each other
TEXT_LIMITS = ("format", "maxLength", "minLength", "pattern")
KINDS = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
PYTHON = {"True": "true", "False": "false", "None": "null"}


def parameter_types(schema: Mapping[str, Any] | None) -> Mapping[str, frozenset[str]]:
    """Return the types of each parameter that a schema of an object names."""
    properties = (schema or {}).get("properties")
    if not isinstance(properties, dict):
        return {}
    return {name: frozenset(_types(each, schema or {}, 0)) for name, each in properties.items()}


def as_json(text: str, types: frozenset[str]) -> str | None:
    """Return a value's text as JSON of one of these types; None where it is only a string.

    A string in quotes is one of JSON where the schema says that other values may come, too.
    """
    text = PYTHON.get(text.strip(), text.strip())
    try:
        value = json.decode(text)
    except ValueError:
        return None
    return text if _kinds(value) & (types - {"string"} if types == ALL else types) else None


def text_choices(schema: Any, root: Mapping[str, Any], depth: int = 0) -> list[str] | None:
    """Return the texts that a schema leaves to choose from; None where it does not list them."""
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return None
    if isinstance(target := schema.get("$ref"), str):
        return text_choices(resolved(target, root), root, depth + 1)
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list):
        return [each for each in values if isinstance(each, str)]
    options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    each = [text_choices(o, root, depth + 1) for o in options or ()]
    texts = [text for listed in each for text in listed or ()]
    return None if not each or None in each else texts


def text_limits(schema: Any, root: Mapping[str, Any], depth: int = 0) -> set[str]:
    """Return the keywords of a schema, and of what it is made of, that limit texts."""
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return set()
    options = [each for key in ("anyOf", "oneOf", "allOf") for each in schema.get(key) or ()]
    if isinstance(target := schema.get("$ref"), str):
        options.append(resolved(target, root))
    own = {each for each in TEXT_LIMITS if each in schema}
    return own.union(*(text_limits(each, root, depth + 1) for each in options))


def _kinds(value: Any) -> frozenset[str]:
    if isinstance(value, int) and not isinstance(value, bool):
        return frozenset({"integer", "number"})
    default = "array" if isinstance(value, list) else "object"
    return frozenset({KINDS.get(type(value), default)})


def _types(schema: Any, root: Mapping[str, Any], depth: int) -> Iterator[str]:
    """Yield the types that a schema names: by itself, by its choices, by what it refers to."""
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        yield from ALL
        return
    named = schema.get("type")
    choices = [each for key in ("anyOf", "oneOf", "allOf") for each in schema.get(key) or ()]
    values = [*(schema.get("enum") or ()), *([schema["const"]] if "const" in schema else [])]
    if isinstance(named, str):
        yield named
    elif isinstance(named, list):
        yield from (each for each in named if isinstance(each, str))
    elif choices:
        for each in choices:
            yield from _types(each, root, depth + 1)
    elif values:
        for each in values:
            yield from _kinds(each)
    elif isinstance(target := schema.get("$ref"), str):
        yield from _types(resolved(target, root), root, depth + 1)
    else:
        yield from ALL


def resolved(reference: str, root: Mapping[str, Any]) -> Any:
    """Return what a reference within the schema points to; None where it points elsewhere."""
    found: Any = root if reference.startswith("#") else None
    for step in reference.split("/")[1:]:
        found = found.get(step) if isinstance(found, dict) else None
    return found
