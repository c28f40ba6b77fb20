"""Numbers in JSON schemas, brought within what llguidance can follow.

It reads bounds as binary64 and counts in 64 bits: beyond them it lets through what is out of
bounds, or ends the process. The states of a multiple are as many as its value.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

FARTHEST = 2**63 - 1024  # the largest binary64 below 2**63
MULTIPLES = 2**16  # the least common one of all in a schema, counted in its smallest digit
# A bound's keyword -> the side on which it leaves values.
SIDES = {"minimum": 1, "exclusiveMinimum": 1, "maximum": -1, "exclusiveMaximum": -1}
BY_NAME = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
VALUES = ("const", "enum", "default", "examples", "example", "required")
EMBEDDED = re.compile(r"%json\s*(?=\{)")
DECODER = json.JSONDecoder()


class BoundError(ValueError):
    """A number cannot be kept to; the message goes on from the name of the field."""


def within_reach(schema: Any) -> Any:
    """Return a schema that lets nothing more through, and whose numbers can be followed.

    Raises BoundError for one that leaves nothing.
    """
    multiples: list[int | float] = []
    out = _each(schema, multiples)
    if _least_common(multiples) > MULTIPLES:
        raise BoundError('has a "multipleOf" beyond what can be followed')
    return out


def lark_within_reach(lark: str) -> str:
    """Return a Lark grammar whose JSON schemas are within reach, and all else as it stands."""
    out: list[str] = []
    at = 0
    for match in EMBEDDED.finditer(lark):
        if match.end() < at:
            continue
        try:
            schema, end = DECODER.raw_decode(lark, match.end())
        except ValueError:
            continue  # llguidance says what is wrong
        if (within := within_reach(schema)) != schema:
            out += [lark[at : match.end()], json.dumps(within)]
            at = end
    return "".join([*out, lark[at:]])


def _each(schema: Any, multiples: list[int | float]) -> Any:
    """Return a schema, or several, with the bounds within reach; note the multiples."""
    if isinstance(schema, Sequence) and not isinstance(schema, str):
        return [_each(each, multiples) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {key: _value(key, value, multiples) for key, value in schema.items()}


def _value(key: str, value: Any, multiples: list[int | float]) -> Any:
    if key in VALUES:
        return value
    if key in BY_NAME and isinstance(value, Mapping):
        return {name: _each(each, multiples) for name, each in value.items()}
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _each(value, multiples)
    if key == "multipleOf" and 0 < value < math.inf:
        multiples.append(value)
    return _bound(key, value, SIDES[key]) if key in SIDES else value


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
