"""JSON schemas that only an endless document fulfils: found before a model writes on and on."""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

PASSES = 16  # over the references; each finds those that end because of what the last one found
# Patterns that Python's search is quick with: one repetition at most, in no group.
QUICK = re.compile(r"[^(){}|*+?]*(?:[*+][^(){}|*+?]*)?")
MATCHES = 1000  # of an object's names with its patterns
NAME = 256  # characters of a name that is held against a pattern
VALUES = {"const", "enum", "default", "examples"}  # keywords that have no schemas in them


def is_endless(schema: Any) -> bool:
    """Return whether each document that fulfils the schema has another one inside.

    Raises RecursionError for one that is nested too deeply.
    """
    references = _References(schema)
    for _ in range(PASSES):
        before = len(references.finite)
        if references.ends(schema):
            return False
        if len(references.finite) == before:
            break
    return True


class _References:
    """The references of a schema, and those known to be fulfilled by something finite."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._looking: set[str] = set()
        self.finite: set[str] = set()

    def ends(self, schema: Any) -> bool:
        """Return whether something finite is known to fulfil a schema; other keywords count not."""
        self._looking.clear()
        return self._ends(schema)

    def _ends(self, schema: Any) -> bool:
        if not isinstance(schema, Mapping) or "const" in schema or "enum" in schema:
            return True
        reference, kind = schema.get("$ref"), schema.get("type")
        if isinstance(reference, str) and not self._reference_ends(reference):
            return False
        if not all(map(self._ends, _listed(schema, "allOf"))):
            return False
        for name in ("anyOf", "oneOf"):
            options = _listed(schema, name)
            if options and not any(map(self._ends, options)):
                return False
        kinds = kind if isinstance(kind, list) and kind else [kind]
        return any(all(map(self._ends, _members(schema, each))) for each in kinds)

    def _reference_ends(self, reference: str) -> bool:
        if reference in self.finite:
            return True
        if reference in self._looking:
            return False
        self._looking.add(reference)
        if self._ends(self._target(reference)):
            self.finite.add(reference)
        return reference in self.finite

    def _target(self, reference: str) -> Any:
        """Return what a reference within the document names; nothing known of any other."""
        own = self._schema.get("$id") if isinstance(self._schema, Mapping) else None
        place = _place(own, reference)
        if place is None:
            return True
        if place and not place.startswith("/"):
            return self._anchors.get(place, True)
        return _at(self._schema, place)

    @cached_property
    def _anchors(self) -> dict[str, Any]:
        return _anchors(self._schema)


def _members(schema: Mapping[str, Any], kind: Any) -> list[Any]:
    """List what a value of a kind cannot be without."""
    if kind == "object":
        names = [name for name in _listed(schema, "required") if isinstance(name, str)]
        if names or "patternProperties" in schema or schema.get("properties"):
            return [each for name in names for each in _named(schema, name)]
        others = schema.get("minProperties") and "additionalProperties" in schema
        return [schema["additionalProperties"]] if others else []
    if kind != "array":
        return []
    least = schema.get("minItems")
    least = max(least, 0) if isinstance(least, int) else 0
    first = _listed(schema, "prefixItems")
    rest = [schema["items"]] if "items" in schema and least > len(first) else []
    return first[:least] + rest


def _named(schema: Mapping[str, Any], name: str) -> list[Any]:
    """List the schemas that the property of a name is held to, as far as they are known."""
    properties, patterns = _mapped(schema, "properties"), _mapped(schema, "patternProperties")
    out = [properties[name]] if name in properties else []
    if len(patterns) * len(_listed(schema, "required")) > MATCHES:
        return out
    matches = {pattern: _matches(pattern, name) for pattern in patterns}
    out += [patterns[pattern] for pattern, is_match in matches.items() if is_match]
    others = not out and None not in matches.values() and "additionalProperties" in schema
    return [schema["additionalProperties"]] if others else out


def _matches(pattern: str, name: str) -> bool | None:
    """Return whether a pattern is found in a name; None where that may take long to see."""
    if len(name) > NAME or not QUICK.fullmatch(pattern):
        return None
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return None  # llguidance says what is wrong


def _mapped(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = schema.get(name)
    return value if isinstance(value, Mapping) else {}


def _listed(schema: Mapping[str, Any], name: str) -> list[Any]:
    value = schema.get(name)
    return value if isinstance(value, list) else []


def _place(own: Any, reference: str) -> str | None:
    """Return what a reference names within the document of this `$id`; None in any other."""
    if reference.startswith("#"):
        return unquote(reference[1:])
    if not isinstance(own, str) or len(own) > NAME:
        return None
    try:
        address, place = urldefrag(urljoin(own, reference))
    except ValueError:  # no address
        return None
    return unquote(place) if address == urldefrag(own).url else None


def _at(schema: Any, place: str) -> Any:
    """Return what a JSON pointer leads to; nothing known where nothing is."""
    for part in place.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, list) and name.isdecimal() and int(name) < len(schema):
            schema = schema[int(name)]
        elif isinstance(schema, Mapping) and name in schema:
            schema = schema[name]
        else:
            return True
    return schema


def _anchors(schema: Any) -> dict[str, Any]:
    """Return the schemas that have an anchor, but for those in documents of their own."""
    out: dict[str, Any] = {}
    left = [schema]
    while left:
        each = left.pop()
        if isinstance(each, list):
            left += each
        elif isinstance(each, Mapping) and (each is schema or "$id" not in each):
            if isinstance(anchor := each.get("$anchor"), str):
                out[anchor] = each
            left += [value for key, value in each.items() if key not in VALUES]
    return out
