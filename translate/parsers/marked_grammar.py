"""Grammars of Gemma's arguments: bare keys, and texts between two of a mark, by a JSON schema."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import json

from ...engine.text.lark import quoted
from ..decode import invalid
from .parameter_types import resolved
from .tool_rules import Pair, Rules
from .values import KEY, spelled

SCALARS = {"integer", "number", "boolean", "null"}
CHOICES = ("anyOf", "oneOf")
BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
SAID = {"title", "description", "default", "examples", "example", "$defs", "definitions", "$schema"}
# The keywords that are kept to, of all values and of each type; others are not, but where strict.
KEPT = {"type", "enum", "const", "nullable", "$ref", *CHOICES, *SAID}
KEPT_OF = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": set[str](),
    **dict.fromkeys(SCALARS, BOUNDS),
}
ANY_KEY = r"/[A-Za-z_$][\w$-]{0,63}/"


class MarkedValues:
    """The rules of values whose texts stand between two of a `mark`, for a tool's schema.

    `field` is that of the schema; of a `strict` one all is kept to, or it is refused.
    """

    def __init__(
        self, rules: Rules, mark: str, root: Mapping[str, Any], field: str, strict: bool
    ) -> None:
        self._rules, self._mark, self._root = rules, mark, root
        self._field, self._strict = field, strict
        self._named: dict[str, str] = {}  # references, and the rules that they became
        self._any = ""

    def value(self, schema: Any) -> str:
        """Return a rule of the values that a schema lets through. Raises Refusal."""
        if not isinstance(schema, dict):
            return self._anything()
        if isinstance(target := schema.get("$ref"), str):
            return self._reference(target)
        if "const" in schema or isinstance(schema.get("enum"), list):
            values = [schema["const"]] if "const" in schema else schema["enum"]
            return self._either(self._rules.literal(spelled(v, self._mark)) for v in values)
        for key in CHOICES:
            if isinstance(options := schema.get(key), list) and options:
                return self._either(map(self.value, options))
        said = schema.get("type")
        kinds: list[Any] = said if isinstance(said, list) else [said]
        self._refuse_unkept(schema, kinds)
        if not KEPT_OF.keys() >= {*kinds}:
            return self._anything()
        return self._either(self._kinds[kind](schema) for kind in kinds)

    @property
    def _kinds(self) -> Mapping[str, Callable[[Mapping[str, Any]], str]]:
        scalars = {kind: self._scalar(kind) for kind in SCALARS}
        return {"object": self._object, "array": self._array, "string": self._text, **scalars}

    def _scalar(self, kind: str) -> Callable[[Mapping[str, Any]], str]:
        def scalar(schema: Mapping[str, Any]) -> str:
            bounds = {key: schema[key] for key in BOUNDS if key in schema}
            return self._rules.json({"type": kind, **bounds}, self._field, self._strict)

        return scalar

    def _text(self, schema: Mapping[str, Any]) -> str:
        return f"{self._rules.literal(self._mark)} {self._rules.until(self._mark)}"

    def _array(self, schema: Mapping[str, Any]) -> str:
        item = self.value(schema.get("items"))
        least, most = schema.get("minItems", 0), schema.get("maxItems", "")
        if most == 0:
            return quoted("[]")
        times = f"{{{max(least - 1, 0)},{most - 1 if most else ''}}}"
        items = f'{item} ("," {item}){times}'
        return f'"[" {items} "]"' if least else f'"[" ({items})? "]"'

    def _object(self, schema: Mapping[str, Any]) -> str:
        pairs = [*self._pairs(schema)]
        if not pairs and schema.get("additionalProperties") is not False:
            pair = f'{ANY_KEY} ":" {self._anything()}'
            return f'"{{" ({pair} ("," {pair})*)? "}}"'
        return f'"{{" {self._rules.listed(pairs, quoted(","))} "}}"'

    def _pairs(self, schema: Mapping[str, Any]) -> Iterator[Pair]:
        listed, required = schema.get("properties") or {}, schema.get("required") or ()
        for name in dict.fromkeys([*listed, *required]):
            if KEY.fullmatch(name):
                yield quoted(f"{name}:"), self.value(listed.get(name)), name in required
            elif self._strict or name in required:
                problem = f"has a name that calls of this model cannot write: {quoted(name)}"
                raise invalid(self._field, problem)

    def _reference(self, target: str) -> str:
        if target not in self._named:
            self._named[target] = name = self._rules.name()
            self._rules.write(name, self.value(resolved(target, self._root)))
        return self._named[target]

    def _anything(self) -> str:
        if not self._any:
            self._any = name = self._rules.name()
            kinds: Sequence[Mapping[str, Any]] = [{"type": kind} for kind in KEPT_OF]
            self._rules.write(name, self._either(map(self.value, kinds)))
        return self._any

    def _either(self, options: Iterator[str]) -> str:
        return self._rules.rule(" | ".join(options))

    def _refuse_unkept(self, schema: Mapping[str, Any], kinds: Sequence[Any]) -> None:
        kept = KEPT.union(*(KEPT_OF[kind] for kind in kinds if kind in KEPT_OF))
        if self._strict and (others := schema.keys() - kept):
            said = ", ".join(json.encode(each).decode() for each in sorted(others))
            raise invalid(self._field, f"has keywords that calls of this model cannot keep: {said}")
