"""The model that a request's body names: read, and replaced without a change of any other byte."""

import re
from collections.abc import Iterator

import msgspec
from msgspec import Raw, Struct

KEY = re.compile(rb'[\s,{]*("[^"\\]*(?:\\.[^"\\]*)*")\s*:\s*', re.DOTALL)
END = re.compile(rb"\s*[,}]")
TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]|[\]}]|[^\s,:"\[\]{}]+', re.DOTALL)
EMPTY = re.compile(rb"\s*\{\s*\}")


class _Named(Struct):
    model: str | None = None


NAMED = msgspec.json.Decoder(_Named)
MEMBERS = msgspec.json.Decoder(dict[str, Raw])


def model_named(body: bytes) -> str | None:
    """Return the model that a body names, if any; None for what is no request."""
    try:
        return NAMED.decode(body).model or ""
    except ValueError:
        return None


def renamed(body: bytes, model: str) -> bytes:
    """Return the same object with this model. Raises ValueError where it is no JSON object."""
    value, pieces, at = msgspec.json.encode(model), [], 0
    for start, end in _models(body):
        pieces += [body[at:start], value]
        at = end
    if not pieces:  # it names none
        at = body.index(b"{") + 1
        pieces = [body[:at], b'"model":', value, b"" if EMPTY.match(body) else b","]
    return b"".join([*pieces, body[at:]])


def _models(body: bytes) -> Iterator[tuple[int, int]]:
    """Yield where the values of `model` stand in an object: of a key that is there twice, each.

    The lengths of values are known from decoding the object, but for keys that are there twice.
    """
    values, at = MEMBERS.decode(body), 0
    while key := KEY.match(body, at):
        name, start = msgspec.json.decode(key[1], type=str), key.end()
        value = bytes(values[name])
        at = start + len(value)
        if not (body.startswith(value, start) and END.match(body, at)):
            at = _end(body, start)
        if name == "model":
            yield start, at


def _end(body: bytes, start: int) -> int:
    """Return where a value ends."""
    depth = 0
    for token in TOKEN.finditer(body, start):
        depth += (token[0] in (b"[", b"{")) - (token[0] in (b"]", b"}"))
        if not depth:
            return token.end()
    raise ValueError("no value ends")  # which was decoded before
