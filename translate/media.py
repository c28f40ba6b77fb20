"""The parts of a conversation that are no texts: as URLs, and refused where no model sees them."""

import re
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from .chat import Chat
from .decode import invalid, unsupported
from .parts import Audio, Document, Image, Media

KINDS: Mapping[type[Media], str] = {
    Image: "image input",
    Document: "file input",
    Audio: "audio input",
}
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
