"""Anthropic's blocks that a model reads as text: documents, search results, its servers' tools."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct

from .decode import invalid, shown, unsupported

UNBUILT_SOURCES = {
    "base64": "PDF documents",
    "url": "documents by their address",
    "file": "documents by their file's id",
}


class TextPart(Struct):
    type: str
    text: str = ""


class DocumentSource(Struct):
    """What a document consists of; `data` is a text unless it is base64."""

    type: str = ""
    data: str = ""
    content: str | list[TextPart] | None = None


class FoundPage(Struct):
    """A page that a search of Anthropic's servers found; its text is for them alone."""

    title: str
    url: str


def document(
    source: DocumentSource | str | None, title: str | None, context: str | None, place: str
) -> str:
    """Return a document as a text, its title first. Raises Refusal for what is none."""
    if source is None or isinstance(source, str):
        raise invalid(f"{place}.source", "must be an object")
    if source.type in UNBUILT_SOURCES:
        raise unsupported(f"{place}.source.type", UNBUILT_SOURCES[source.type])
    if source.type == "text":
        text = source.data
    elif source.type == "content":
        text = _text(source.content, f"{place}.source.content")
    else:
        problem = f"must be text or content, not {shown(source.type)}"
        raise invalid(f"{place}.source.type", problem)
    return _marked("document", {"Title": title, "Context": context}, text)


def search_result(source: Any, title: str | None, texts: Sequence[str], place: str) -> str:
    """Return what a client found for the model as a text, with title and source."""
    if not isinstance(source, str):
        raise invalid(f"{place}.source", "must be a string")
    return _marked("search_result", {"Title": title, "Source": source}, "\n".join(texts))


def server_call(kind: str, name: str | None, input: dict[str, Any] | None) -> str:
    """Return the call of a tool of Anthropic's servers, as an earlier answer has it."""
    arguments = msgspec.json.encode(input or {}).decode()
    return _marked(kind, {"Name": name}, arguments)


def server_result(kind: str, content: Any) -> str:
    """Return what such a tool returned; of a search titles and addresses, for its texts are sealed.

    An error is its code.
    """
    with suppress(msgspec.ValidationError):
        pages = msgspec.convert(content, list[FoundPage])
        return _marked(kind, {}, "\n".join(f"{page.title}: {page.url}" for page in pages))
    return _marked(kind, {}, msgspec.json.encode(content).decode())


def _text(content: str | list[TextPart] | None, place: str) -> str:
    if isinstance(content, str):
        return content
    for at, part in enumerate(content or ()):
        if part.type != "text":
            raise unsupported(f"{place}[{at}].type", f"{part.type} parts of documents")
    return "\n".join(part.text for part in content or ())


def _marked(tag: str, about: dict[str, str | None], text: str) -> str:
    head = "".join(f"{name}: {value}\n" for name, value in about.items() if value)
    return f"<{tag}>\n{head}{chr(10) if head else ''}{text}\n</{tag}>"
