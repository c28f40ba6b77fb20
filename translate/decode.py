"""Decoding of JSON bytes into a typed request, or a Refusal that names the field at fault."""

import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, TypeVar

import msgspec

from ..engine.request import Refusal

Body = TypeVar("Body")
Sent = TypeVar("Sent")

MAX_DEPTH = 64  # levels of nesting; real requests, tool schemas included, stay below 20
MAX_VALUES = 10_000  # in a field of any shape, each of which is an object in memory
MAX_COMMAS = 300_000  # in a body: the ids that OpenAI embeds at once, or a context of 262,144
MAX_CONTAINERS = 50_000  # lists and objects in a body: MAX_MESSAGES of a part each have 49,153
PIECE = 2**16  # bytes of a body that are looked at together, others having their turns between
ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # +1 and -1 as signed bytes

LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
PAIR = len(rb"\ud83d\ude00")
# msgspec's reasons where a string holds such an escape.
SURROGATE_REASON = re.compile(r"surrogate|hex escape|truncated")

TYPES = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
BOUNDS = {">=": "at least", "<=": "at most", ">": "greater than", "<": "less than"}

# The sentences of msgspec.ValidationError, unchanged from msgspec 0.18.6 to 0.23.
PLACE = re.compile(r"(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$\.?(?P<path>.*)`)?", re.DOTALL)
WRONG_TYPE = re.compile(r"Expected `(?P<types>.*)`, got `(?P<got>.*)`")
OUT_OF_BOUNDS = re.compile(r"Expected `(?:int|float)` (?P<sign>[<>]=?) (?P<bound>\S+)")
WRONG_LENGTH = re.compile(r"Expected `(?P<type>\w+)` of length (?P<sign>[<>]=?) (?P<bound>\d+)")
UNKNOWN = re.compile(r"Invalid enum value '(?P<value>.*)'", re.DOTALL)
MISSING = re.compile(r"Object missing required field `(?P<name>.*)`")


def decode(body: bytes, decoder: msgspec.json.Decoder[Body]) -> Body:
    """Return the body as the decoder's type; unknown fields are ignored. Raises Refusal."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            message = f"The request is not UTF-8 at byte {error.start}; send JSON in UTF-8."
            raise Refusal(400, "invalid_json", message) from None
    weigh(body)
    return parse(body, decoder)


def parse(body: bytes, decoder: msgspec.json.Decoder[Body]) -> Body:
    """Decode a body that has been checked for what no decoder should be given."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _wrong_field(str(error)) from None
    except msgspec.DecodeError as error:
        raise _malformed(body, str(error)) from None


def weigh(body: bytes) -> None:
    """Refuse what would take long to decode, which nothing can interrupt. Raises Refusal."""
    commas = containers = level = 0
    for piece in outside_strings(body):
        steps = memoryview(piece.translate(STEPS, ALL_BUT_BRACKETS)).cast("b")
        levels = [*accumulate(steps, initial=level)]
        if max(levels) > MAX_DEPTH:
            message = f"The request is nested more than {MAX_DEPTH} levels deep."
            raise Refusal(400, "invalid_json", message)
        level = levels[-1]
        commas += piece.count(b",")
        containers += piece.count(b"[") + piece.count(b"{")
        if commas > MAX_COMMAS or containers > MAX_CONTAINERS:
            message = (
                f"The request has too many values: at most {MAX_COMMAS} with a comma between, and "
                f"{MAX_CONTAINERS} lists and objects, are taken at once; send it in parts."
            )
            raise Refusal(413, "request_too_large", message)


def outside_strings(body: bytes, size: int = PIECE) -> Iterator[bytes]:
    """Yield what a body has outside its strings, piece by piece, in linear time."""
    inside, escape = 0, b""
    for start in range(0, len(body), size):
        piece = (escape + body[start : start + size]).replace(rb"\\", b"")
        escape = b"\\" if piece.endswith(b"\\") else b""
        parts = piece.removesuffix(b"\\").replace(rb"\"", b"").split(b'"')
        yield b"".join(parts[inside::2])
        inside = (inside + len(parts) - 1) % 2


def invalid(field: str, problem: str, code: str = "invalid_value") -> Refusal:
    """Refuse one field; `problem` goes on from its name, without the full stop."""
    return Refusal(400, code, f"{field} {problem}.", field)


def missing(field: str) -> Refusal:
    return invalid(field, "is required", "missing_required_parameter")


def present(value: Sent | None, field: str) -> Sent:
    """Return a field's value. Raises Refusal where it was not sent."""
    if value is None:
        raise missing(field)
    return value


def unsupported(field: str, what: str) -> Refusal:
    message = f"This version of Bessemer does not have {what} yet; leave out {field}."
    return Refusal(400, "unsupported", message, field)


def bound_values(field: str, value: Any) -> None:
    """Refuse a field of any shape that has too many values in it; a list or an object is one too.

    What keys and texts hold costs memory in proportion to the body.
    """
    left, seen = [value], 0
    while left:
        value = left.pop()
        members = value.values() if isinstance(value, dict) else value
        if isinstance(members, list) or isinstance(value, dict):
            left += members
            seen += len(members)
        if seen > MAX_VALUES:
            raise invalid(field, f"must hold at most {MAX_VALUES} values, however nested")


def shown(text: str) -> str:
    """Quote a caller's text for a message, short enough for a log line."""
    return repr(text if len(text) <= 40 else text[:40] + "...")


def _malformed(body: bytes, reason: str) -> Refusal:
    if not body.strip():
        message = "The request has no body; send a JSON object."
    elif SURROGATE_REASON.search(reason) and _has_lone_surrogate(body):
        message = r"The request has half of a surrogate pair (\ud800 to \udfff) in a string."
    elif "truncated" in reason:
        message = "The request's JSON ends too early; its Content-Length may be wrong."
    else:
        message = f"The request is not JSON: {reason.removeprefix('JSON is malformed: ')}."
    return Refusal(400, "invalid_json", message)


def _has_lone_surrogate(body: bytes) -> bool:
    """Look for half a pair in pieces; what begins in one may end, or be looked behind, outside."""
    for start in range(0, len(body), PIECE):
        match = LONE_SURROGATE.search(body, start, start + PIECE + PAIR)
        if match and match.start() < start + PIECE:
            return True
    return False


def _wrong_field(reason: str) -> Refusal:
    place = PLACE.fullmatch(reason)
    assert place, reason
    what, path = place["what"], place["path"] or ""
    if match := MISSING.fullmatch(what):
        return missing(f"{path}.{match['name']}".lstrip("."))
    where = f"A key of {path}" if place["key"] else path or "The request's body"
    code, problem = problem_of(what)
    return Refusal(400, code, f"{where} {problem}.", path or None)


def problem_of(what: str) -> tuple[str, str]:
    """Return the code of a sentence of msgspec's, and how it goes on from a field's name."""
    if match := WRONG_TYPE.fullmatch(what):
        types = _either(match["types"].split(" | "))
        return "invalid_type", f"must be {types}, not {_either([match['got']])}"
    if match := OUT_OF_BOUNDS.fullmatch(what):
        bound = match["bound"].removesuffix(".0")
        return "invalid_value", f"must be {BOUNDS[match['sign']]} {bound}"
    if match := WRONG_LENGTH.fullmatch(what):
        if (match["sign"], match["bound"]) == (">=", "1"):
            return "invalid_value", "must not be empty"
        unit = "characters" if match["type"] == "str" else "items"
        return "invalid_value", f"must have {BOUNDS[match['sign']]} {match['bound']} {unit}"
    if match := UNKNOWN.fullmatch(what):
        return "invalid_value", f"cannot be {shown(match['value'])}"
    if "out of range" in what:
        return "invalid_value", "is a number out of range"
    return "invalid_value", f"is not valid: {what}"


def _either(names: list[str]) -> str:
    names = [name for name in names if name != "null"] or names
    return " or ".join(TYPES.get(name, name) for name in names)
