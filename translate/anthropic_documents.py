"""Anthropic's blocks beside texts: images, documents, search results, its servers' tools."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct

from .decode import invalid, present, shown, unsupported
from .media import decoded_base64
from .parts import Content, Document, Image, Kept, Text

PDF = "application/pdf"
TEXTS = ("text", "content")  # sources that are read as texts


class TextPart(Struct):
    type: str
    text: str = ""


class Source(Struct):
    """What a document or an image consists of; `data` is a text unless it is base64."""

    type: str = ""
    data: str = ""
    content: str | list[TextPart] | None = None
    media_type: str | None = None
    url: str | None = None
    file_id: str | None = None


class FoundPage(Struct):
    """A page that a search of Anthropic's servers found; its text is for them alone."""

    title: str
    url: str


def image(source: Source | str | None, kept: Kept, place: str) -> Image:
    """Return an image. Raises Refusal for what is none."""
    source = _object(source, place)
    if source.type not in SOURCES:
        raise invalid(f"{place}.source.type", f"must be {_either(SOURCES)}, {_not(source)}")
    where = f"{place}.source"
    return Image(**SOURCES[source.type](source, where), kept=kept, field=f"{place}.type")


def document(
    source: Source | str | None, title: str | None, context: str | None, kept: Kept, place: str
) -> Content:
    """Return a document: as a text, its title first, or as a file, which has its context before it.

    Raises Refusal for what is none.
    """
    source, where = _object(source, place), f"{place}.source"
    if source.type in SOURCES:
        about = SOURCES[source.type](source, where)
        about["media_type"] = about["media_type"] or PDF
        file = Document(**about, title=title, kept=kept, field=f"{where}.type")
        return (Text(_marked("context", {"Title": title}, context)), file) if context else (file,)
    if source.type not in TEXTS:
        raise invalid(f"{where}.type", f"must be {_either((*TEXTS, *SOURCES))}, {_not(source)}")
    plain = source.type == "text"
    text = source.data if plain else _text(source.content, f"{where}.content")
    return (Text(_marked("document", {"Title": title, "Context": context}, text), kept),)


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


def _bytes(source: Source, place: str) -> dict[str, Any]:
    data = decoded_base64(source.data, f"{place}.data")
    return {"media_type": present(source.media_type, f"{place}.media_type"), "data": data}


def _address(source: Source, place: str) -> dict[str, Any]:
    return {"media_type": "", "url": present(source.url, f"{place}.url")}


def _file(source: Source, place: str) -> dict[str, Any]:
    return {"media_type": "", "file_id": present(source.file_id, f"{place}.file_id")}


SOURCES: Mapping[str, Callable[[Source, str], dict[str, Any]]] = {
    "base64": _bytes,
    "url": _address,
    "file": _file,
}


def _object(source: Source | str | None, place: str) -> Source:
    if source is None or isinstance(source, str):
        raise invalid(f"{place}.source", "must be an object")
    return source


def _either(kinds: Iterable[str]) -> str:
    *most, last = kinds
    return f"{', '.join(most)} or {last}"


def _not(source: Source) -> str:
    return f"not {shown(source.type)}"


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
