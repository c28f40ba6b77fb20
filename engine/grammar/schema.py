"""JSON schemas that only an endless document fulfils: found before a model writes on and on."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

PASSES = 16  # over the references; each finds those that end because of what the last one found


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
        if self._ends(_target(self._schema, reference)):
            self.finite.add(reference)
        return reference in self.finite


def _members(schema: Mapping[str, Any], kind: Any) -> list[Any]:
    """List what a value of a kind cannot be without."""
    if kind == "object":
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        required = [name for name in _listed(schema, "required") if isinstance(name, str)]
        out = [properties[name] for name in required if name in properties]
        others = len(out) < len(required) or (not properties and schema.get("minProperties"))
        others = others and "additionalProperties" in schema and "patternProperties" not in schema
        return [*out, schema["additionalProperties"]] if others else out
    if kind != "array":
        return []
    least = schema.get("minItems")
    least = max(least, 0) if isinstance(least, int) else 0
    first = _listed(schema, "prefixItems")
    rest = [schema["items"]] if "items" in schema and least > len(first) else []
    return first[:least] + rest


def _listed(schema: Mapping[str, Any], name: str) -> list[Any]:
    value = schema.get(name)
    return value if isinstance(value, list) else []


def _target(schema: Any, reference: str) -> Any:
    """Return what a reference within the document names; nothing known of any other."""
    if reference != "#" and not reference.startswith("#/"):
        return True
    for part in unquote(reference).split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, list) and name.isdecimal() and int(name) < len(schema):
            schema = schema[int(name)]
        elif isinstance(schema, Mapping) and name in schema:
            schema = schema[name]
        else:
            return True
    return schema
