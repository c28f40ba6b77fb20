"""Numbers and patterns in JSON schemas, brought within what llguidance can follow.

It reads bounds as binary64 and counts in 64 bits: beyond them it lets through what is out of
bounds, or ends the process. The states of a multiple are as many as its value.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

FARTHEST = 2**63 - 1024  # the largest binary64 below 2**63
MULTIPLES = 2**16  # the least common one of all for a value, counted in its smallest digit
# A bound's keyword -> the side on which it leaves values.
SIDES = {"minimum": 1, "exclusiveMinimum": 1, "maximum": -1, "exclusiveMaximum": -1}
BY_NAME = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
# Keywords by which a value may have several schemas.
JOINING = {"allOf", "anyOf", "oneOf", "$ref", "patternProperties", "dependentSchemas"}
VALUES = ("const", "enum", "default", "examples", "example", "required", "x-guidance")
EMBEDDED = re.compile(r"%json\s*(?=\{)")
DECODER = json.JSONDecoder()


class BoundError(ValueError):
    """A number cannot be kept to; the message goes on from the name of the field."""


def within_reach(schema: Any) -> Any:
    """Return a schema that lets nothing more through, and whose numbers can be followed.

    Raises BoundError for one that leaves nothing. A lenient one, as llguidance is told, may lose
    bounds, multiples and patterns.
    """
    guidance = schema.get("x-guidance") if isinstance(schema, dict) else None
    lenient = isinstance(guidance, dict) and guidance.get("lenient") is True
    numbers = _Numbers(lenient)
    out = numbers.each(schema)
    if not numbers.multiples_too_many:
        return out
    if not lenient:
        raise BoundError('has a "multipleOf" beyond what can be followed')
    return _Numbers(lenient, multiples_stay=False).each(schema)


def embedded(lark: str) -> list[Any]:
    """Return the JSON schemas in a Lark grammar, but for those that are none."""
    return [schema for _, schema, _ in _places(lark)]


def lark_within_reach(lark: str) -> str:
    """Return a Lark grammar whose JSON schemas are within reach, and all else as it stands."""
    out: list[str] = []
    at = 0
    for start, schema, end in _places(lark):
        if (within := within_reach(schema)) != schema:
            out += [lark[at:start], json.dumps(within)]
            at = end
    return "".join([*out, lark[at:]])


def _places(lark: str) -> Iterator[tuple[int, Any, int]]:
    """Yield where each JSON schema begins, itself, and where it ends."""
    end = 0
    for match in EMBEDDED.finditer(lark):
        if match.end() < end:
            continue
        try:
            schema, end = DECODER.raw_decode(lark, match.end())
        except ValueError:
            continue  # llguidance says what is wrong
        yield match.end(), schema, end


class _Numbers:
    """The numbers of a schema: bounds are brought within reach, multiples are noted."""

    def __init__(self, lenient: bool, multiples_stay: bool = True) -> None:
        self._lenient, self._multiples_stay = lenient, multiples_stay
        self._multiples: list[int | float] = []
        self._joined = False

    @property
    def multiples_too_many(self) -> bool:
        """Return whether a value may be held to multiples with too many states."""
        groups = [self._multiples] if self._joined else [[each] for each in self._multiples]
        return any(_least_common(group) > MULTIPLES for group in groups)

    def each(self, schema: Any) -> Any:
        """Return a schema, or several, with the bounds within reach."""
        if isinstance(schema, Sequence) and not isinstance(schema, str):
            return [self.each(each) for each in schema]
        if not isinstance(schema, Mapping):
            return schema
        self._joined |= not JOINING.isdisjoint(schema)
        return {
            key: self._value(key, value) for key, value in schema.items() if self._stays(key, value)
        }

    def _stays(self, key: str, value: Any) -> bool:
        if not self._lenient:
            return True
        if key == "pattern" and isinstance(value, str):
            return _is_pattern(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        if key == "multipleOf":
            return self._multiples_stay
        return key not in SIDES or value * SIDES[key] <= FARTHEST

    def _value(self, key: str, value: Any) -> Any:
        if key in VALUES:
            return value
        if key in BY_NAME and isinstance(value, Mapping):
            return {name: self.each(each) for name, each in value.items()}
        if isinstance(value, bool) or not isinstance(value, int | float):
            return self.each(value)
        if key == "multipleOf" and 0 < value < math.inf:
            self._multiples.append(value)
        return _bound(key, value, SIDES[key]) if key in SIDES else value


def _is_pattern(regex: str) -> bool:
    """Return whether a regular expression has nothing that llguidance never follows: look-around.

    One that is none stays, so that its mistake is told.
    """
    from llguidance import LLMatcher  # here: a model that is asked for no grammar does without

    grammar = {"json_schema": {"type": "string", "pattern": regex}}
    return "not supported" not in LLMatcher.validate_grammar(json.dumps({"grammars": [grammar]}))


def _bound(key: str, value: int | float, side: int) -> int | float:
    """Return a bound as a number that binary64 has: the same, or the next on its side."""
    if value * side > FARTHEST:
        raise BoundError(f'has a "{key}" beyond what can be followed')
    if value * side < -FARTHEST:
        return -side * FARTHEST
    nearest = value if isinstance(value, float) else float(value)
    if isinstance(value, int) and (int(nearest) - value) * side < 0:
        nearest = math.nextafter(nearest, side * math.inf)
    return int(nearest) if isinstance(value, int) else nearest


def _least_common(numbers: Sequence[int | float]) -> int:
    fractions = [Fraction(repr(each)) for each in numbers]
    digits = math.lcm(*(each.denominator for each in fractions))
    return math.lcm(*(int(each * digits) for each in fractions))
