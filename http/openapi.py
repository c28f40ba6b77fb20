"""The OpenAPI document of the endpoints, from the types that decode requests and write answers.

https://spec.openapis.org/oas/v3.2.0.html
"""

import re
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

import msgspec

from ..translate.operation import Operation
from .message import JSON
from .routes import Route

Routes = Mapping[tuple[str, str], Route]
Schema = dict[str, Any]

ABOUT = (
    "Paths are served with /v1 before them and without it. A field that is not listed is ignored, "
    "but for those that an operation refuses by name."
)
PARAMETER = re.compile(r"\{(\w+)\}")
MEDIA = dict(JSON)[b"content-type"].decode()
EVENTS = "text/event-stream"
KEYS: Schema = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


def document(routes: Routes, streams: Mapping[str, str]) -> Schema:
    """Return the document; `streams` are the media types of the paths that stream."""
    described = [(*place, route, route.operation) for place, route in routes.items()]
    operations = [each for *_, each in described if each is not None]
    types = [*dict.fromkeys(each for operation in operations for each in _types(operation))]
    schemas, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    of = dict(zip(types, schemas, strict=True))
    paths: dict[str, Schema] = {}
    for method, path, route, operation in described:
        if operation is not None:
            about = operation, route.public, streams.get(path) if method == "POST" else None
            entry = _entry(_name(method, path), path, *about, of)
            paths.setdefault(path, {})[method.lower()] = entry
    return {
        "openapi": "3.2.0",
        "info": {
            "title": "Bessemer",
            "version": metadata.version("bessemer"),
            "description": ABOUT,
        },
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": KEYS},
        "security": [{}, *({name: []} for name in KEYS)],
    }


def _types(operation: Operation) -> Iterator[Any]:
    if operation.request is not None:
        yield operation.request.type
    yield from (operation.response, operation.error, *operation.pieces)


def _name(method: str, path: str) -> str:
    """Return an operation's name: its path's, and what happens to the path where it is deleted."""
    name = re.sub(r"\W+", "_", path).strip("_")
    return f"delete_{name}" if method == "DELETE" else name


def _entry(
    name: str,
    path: str,
    operation: Operation,
    public: bool,
    stream: str | None,
    of: Mapping[Any, Schema],
) -> Schema:
    content = {MEDIA: {"schema": of[operation.response]}}
    if stream is not None:
        pieces: Schema = {"anyOf": [of[piece] for piece in operation.pieces]}
        content[stream] = {
            "itemSchema": _event(pieces, operation.mark) if EVENTS in stream else pieces
        }
    entry: Schema = {
        "summary": operation.summary,
        "operationId": name,
        "responses": {
            "200": {"description": "What was asked for.", "content": content},
            "default": {
                "description": "Why it is not.",
                "content": {MEDIA: {"schema": of[operation.error]}},
            },
        },
    }
    if names := PARAMETER.findall(path):
        entry["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    if operation.request is not None:
        body: Schema = {"schema": of[operation.request.type]}
        if operation.example is not None:
            body["example"] = operation.example
        entry["requestBody"] = {"required": True, "content": {MEDIA: body}}
        entry["description"] = _unlisted(operation)
    if public:
        entry["security"] = []
    return entry


def _event(pieces: Schema, mark: str) -> Schema:
    """Return a server-sent event, whose data are such pieces as JSON or the mark of the end."""
    data: Schema = {"type": "string", "contentMediaType": MEDIA, "contentSchema": pieces}
    if mark:
        data = {"anyOf": [data, {"const": mark}]}
    properties = {"event": {"type": "string"}, "data": data}
    return {"type": "object", "properties": properties, "required": ["data"]}


def _unlisted(operation: Operation) -> str:
    """Say which fields are refused where they ask for something, and which mean nothing here."""
    assert operation.request is not None
    refused = ", ".join(sorted(operation.request.unbuilt))
    ignored = ", ".join(operation.request.ignored)
    return f"Refused by name: {refused}.\n\nTaken and ignored: {ignored}."
