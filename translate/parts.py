"""The parts of a turn's content: texts, and media by their bytes or addresses."""

from dataclasses import dataclass, field
from typing import Literal

# For how long a prompt is asked to be kept in a cache up to the end of a part.
Kept = Literal["", "5m", "1h"]


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    kept: Kept = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A part that is no text, by its bytes or by its address; `media_type` as in RFC 6838.

    The type is empty where only an address is known. `field` is the request's that has it;
    `file_id` names one that its provider has.
    """

    media_type: str
    data: bytes = b""
    url: str | None = None
    file_id: str | None = None
    kept: Kept = field(default="", compare=False)
    field: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image(Media):
    detail: str | None = None  # OpenAI's low, high or auto


@dataclass(frozen=True, slots=True, kw_only=True)
class Document(Media):
    title: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio(Media):
    pass


@dataclass(frozen=True, slots=True)
class SignedThought:
    """A thought with what proves to the server that made it that it did.

    One without a text is redacted, unless its text was only `omitted`: the `signature` holds all
    that there is of it. `origin` is the format of that server, "" where nobody knows it.
    """

    text: str
    signature: str
    origin: str = ""
    omitted: bool = False


Part = Text | Image | Document | Audio
Content = tuple[Part, ...]


def said(text: str) -> Content:
    """Return the content of a turn that is one text; an empty one has no parts."""
    return (Text(text),) if text else ()
