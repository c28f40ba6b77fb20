"""The parts of a conversation that are no texts: as URLs, and refused where no model sees them."""

import mimetypes
import re
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from .chat import Chat
from .decode import invalid, unsupported
from .parts import Audio, Document, Image, Media

KINDS: Mapping[type[Media], str] = {
    Image: "image input",
    Document: "file input",
    Audio: "audio input",
}
# What files of each type begin with.
STARTS = (
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"BM"), "image/bmp"),
)
ADDRESSES = ("http://", "https://")
PDF = "application/pdf"  # of files that nothing tells more about
# https://www.rfc-editor.org/rfc/rfc2397; without a type it is plain text.
DATA_URL = re.compile(r"data:([^,;]*)((?:;[^,;]*)*),", re.IGNORECASE)


def decoded_base64(text: str, field: str) -> bytes:
    """Return the bytes of a text in base64, which may have lines. Raises Refusal."""
    try:
        return b64decode("".join(text.split()), validate=True)
    except (Error, ValueError):
        raise invalid(field, "must be base64") from None


def decoded_data_url(url: str, field: str) -> tuple[str, bytes] | None:
    """Return the type and the bytes of a data URL; None for any other URL. Raises Refusal."""
    head = DATA_URL.match(url)
    if head is None:
        return None
    rest = url[head.end() :]
    in_base64 = head[2].lower().endswith(";base64")
    data = decoded_base64(rest, field) if in_base64 else unquote_to_bytes(rest)
    return head[1].lower() or "text/plain", data


def image_of_url(url: str, place: str, **about: Any) -> Image:
    """Return an image by its address, which may hold it. Raises Refusal that names the place."""
    if data := decoded_data_url(url, place):
        return Image(media_type=data[0], data=data[1], **about)
    if not url.lower().startswith(ADDRESSES):
        raise invalid(place, "must be a data URL or begin with http(s)://")
    return Image(media_type="", url=url, **about)


def titled_file(data: str, title: str | None, place: str, **about: Any) -> Document:
    """Return a file by a data URL or base64, then of the type that its name tells, or a PDF."""
    if found := decoded_data_url(data, place):
        return Document(media_type=found[0], data=found[1], title=title, **about)
    type = type_of(title)
    return Document(media_type=type, data=decoded_base64(data, place), title=title, **about)


def type_of(title: str | None) -> str:
    """Return the type that a file's name tells, or what most are."""
    return mimetypes.guess_type(title or "")[0] or PDF


def image_type(data: bytes) -> str:
    """Return the type of an image by its first bytes; PNG where they say none."""
    return next((kind for start, kind in STARTS if start.match(data)), "image/png")


def base64_of(media: Media) -> str:
    return b64encode(media.data).decode()


def data_url(media: Media) -> str:
    return f"data:{media.media_type};base64,{base64_of(media)}"


def refuse_media(chat: Chat) -> None:
    """Raise a Refusal for the first such part, by the field that has it."""
    for message in chat.messages:
        for part in message.content:
            if isinstance(part, Media):
                raise unsupported(part.field, KINDS[type(part)])
