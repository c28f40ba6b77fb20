"""The parts of a conversation that are no texts, which our own models do not see yet."""

from collections.abc import Mapping

from .chat import Chat
from .decode import unsupported
from .parts import Audio, Document, Image, Media

KINDS: Mapping[type[Media], str] = {
    Image: "image input",
    Document: "file input",
    Audio: "audio input",
}


def refuse_media(chat: Chat) -> None:
    """Raise a Refusal for the first such part, by the field that has it."""
    for message in chat.messages:
        for part in message.content:
            if isinstance(part, Media):
                raise unsupported(part.field, KINDS[type(part)])
