"""Structured output: each way in which a request says what form its answer has to have."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct, field

from ..engine.request import MAX_DEFINITION, Grammar
from .chat import ResponseFormat
from .decode import invalid, missing, shown
from .sampling import SamplingFields

Choice = Annotated[list[str], Meta(min_length=1)]
UNSENT = (b"", b"null")
SCHEMA_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")


class StructuredOutputs(Struct, kw_only=True):
    """The field of vLLM's that has all its ways."""

    json: Raw = field(default_factory=Raw)
    regex: str | None = None
    choice: Choice | None = None
    grammar: str | None = None
    json_object: bool | None = None


class StructuredFields(SamplingFields, kw_only=True):
    """OpenAI's field, vLLM's older and newer ones, llama.cpp's and SGLang's."""

    response_format: Raw = field(default_factory=Raw)
    structured_outputs: StructuredOutputs | None = None
    guided_json: Raw = field(default_factory=Raw)
    guided_regex: str | None = None
    guided_choice: Choice | None = None
    guided_grammar: str | None = None
    grammar: str | None = None
    grammar_string: str | None = None
    json_schema: Raw = field(default_factory=Raw)
    regex: str | None = None
    ebnf: str | None = None


# A field, the last part of its name -> the kind of grammar that it has.
KINDS: Mapping[str, Grammar] = {
    "guided_json": "json_schema",
    "json_schema": "json_schema",
    "json": "json_schema",
    "json_object": "json_object",
    "guided_regex": "regex",
    "regex": "regex",
    "guided_choice": "choice",
    "choice": "choice",
    "guided_grammar": "gbnf",
    "grammar": "gbnf",
    "grammar_string": "gbnf",
    "ebnf": "gbnf",
}


def response_format(
    request: StructuredFields, own: Iterable[ResponseFormat] = ()
) -> ResponseFormat | None:
    """Return the form that a request asks for, in whichever way; None where any text will do.

    `own` is what it asks for in a way that only its dialect has.
    """
    formats = [*own, *_formats(request)]
    if len(formats) > 1:
        raise invalid(formats[1].field, f"cannot be had together with {formats[0].field}")
    return formats[0] if formats else None


def json_format(field: str) -> ResponseFormat:
    """Return the form of any JSON object."""
    return _format("json_object", "", field)


def schema_format(field: str, schema: Raw, strict: bool = True) -> ResponseFormat:
    """Return the form that a JSON schema describes; some clients send it as a text."""
    text = bytes(schema)
    if text.startswith(b'"'):
        text = msgspec.json.decode(text, type=str).encode()
    return _format("json_schema", text.decode(), field, strict)


def _formats(request: StructuredFields) -> Iterator[ResponseFormat]:
    if bytes(request.response_format) not in UNSENT:
        yield from _openai(request.response_format)
    inner = request.structured_outputs
    for name, kind in KINDS.items():
        for fields, place in ((request, name), (inner, f"structured_outputs.{name}")):
            value = getattr(fields, name, None)
            if isinstance(value, Raw):
                if bytes(value) not in UNSENT:
                    yield schema_format(place, value)
            elif value:
                yield _format(kind, _definition(value), place)


def _definition(value: str | list[str] | bool) -> str:
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode() if isinstance(value, list) else ""


def _openai(raw: Raw, field: str = "response_format") -> Iterator[ResponseFormat]:
    """Yield what OpenAI's field asks for, or a schema that stands there by itself."""
    try:
        body = msgspec.json.decode(raw, type=dict[str, Raw])
    except msgspec.ValidationError:
        raise invalid(field, "must be an object") from None
    kind = _value(body.get("type"))
    match kind:
        case "text":
            pass
        case "json_object" if "schema" not in body:
            yield json_format(field)
        case "json_object" | "json_schema":
            yield _named_schema(body, field)
        case None if "json_schema" in body or "schema" in body:
            yield _named_schema(body, field)
        case None | list():
            yield schema_format(field, raw)
        case str() if kind in SCHEMA_TYPES:
            yield schema_format(field, raw)
        case _:
            problem = f"must be text, json_object or json_schema, not {shown(str(kind))}"
            raise invalid(f"{field}.type", problem)


def _named_schema(body: Mapping[str, Raw], field: str) -> ResponseFormat:
    """Return the form by OpenAI's object with a name and a schema, or by the schema beside it."""
    described = _value(body.get("json_schema"))
    strict = isinstance(described, dict) and bool(described.get("strict"))
    if isinstance(described, dict) and "schema" in described:
        inner = msgspec.json.decode(body["json_schema"], type=dict[str, Raw])
        return schema_format(field, inner["schema"], strict)
    if "schema" in body:
        return schema_format(field, body["schema"], strict)
    place = f"{field}.json_schema.schema"
    raise missing(place)


def _value(raw: Raw | None) -> Any:
    return None if raw is None else msgspec.json.decode(raw)


def _format(kind: Grammar, definition: str, field: str, strict: bool = True) -> ResponseFormat:
    if len(definition) > MAX_DEFINITION:
        raise invalid(field, f"must have at most {MAX_DEFINITION} characters")
    return ResponseFormat(kind, definition, strict, field)
