"""Parts of messages in chat completions, and their thoughts as OpenRouter has them.

https://openrouter.ai/docs: reasoning tokens
"""

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from .chat import ThoughtSigned
from .decode import invalid, missing, present, shown
from .media import decoded_base64, image_of_url, titled_file
from .openai_shape import text_part
from .origin import brought, carried
from .parts import Audio, Content, Document, Kept, Part, SignedThought

DIALECT = "openai"
SOUNDS = {"wav": "audio/wav", "mp3": "audio/mpeg"}


class ImageUrl(Struct):
    url: str
    detail: str | None = None


class Sound(Struct):
    data: str
    format: str


class File(Struct):
    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = None


class CacheControl(Struct):
    ttl: str | None = None


class InputPart(Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None
    input_audio: Sound | None = None
    file: File | None = None
    cache_control: CacheControl | None = None


class ReasoningDetail(Struct):
    """A thought, or the signature of one: a text's, or all that there is of a redacted one."""

    type: str
    text: str | UnsetType = UNSET
    data: str | UnsetType = UNSET
    signature: str | UnsetType = UNSET


class InputDetail(Struct):
    """The same as it comes back; of other types nothing is read."""

    type: str = ""
    text: str | None = None
    data: str | None = None
    signature: str | None = None


def content_of(parts: Sequence[InputPart], place: str) -> Content:
    """Return the parts of a message. Raises Refusal."""
    return tuple(_part(part, f"{place}[{at}]") for at, part in enumerate(parts))


def _part(part: InputPart, place: str) -> Part:
    mark = part.cache_control
    kept: Kept = "" if mark is None else "1h" if mark.ttl == "1h" else "5m"
    about: dict[str, Any] = {"kept": kept, "field": f"{place}.type"}
    if part.type == "image_url":
        if part.image_url is None:
            raise missing(f"{place}.image_url")
        image = ImageUrl(part.image_url) if isinstance(part.image_url, str) else part.image_url
        return image_of_url(image.url, f"{place}.image_url.url", detail=image.detail, **about)
    if part.type == "input_audio":
        return _sound(present(part.input_audio, f"{place}.input_audio"), place, about)
    if part.type == "file":
        return _file(present(part.file, f"{place}.file"), f"{place}.file", about)
    return text_part(part, place, "text", kept)


def _sound(sound: Sound, place: str, about: dict[str, Any]) -> Audio:
    if sound.format not in SOUNDS:
        allowed = " or ".join(SOUNDS)
        problem = f"must be {allowed}, not {shown(sound.format)}"
        raise invalid(f"{place}.input_audio.format", problem)
    data = decoded_base64(sound.data, f"{place}.input_audio.data")
    return Audio(media_type=SOUNDS[sound.format], data=data, **about)


def _file(file: File, place: str, about: dict[str, Any]) -> Document:
    if file.file_id is not None:
        return Document(media_type="", file_id=file.file_id, title=file.filename, **about)
    data = present(file.file_data, f"{place}.file_data")
    return titled_file(data, file.filename, f"{place}.file_data", **about)


def thoughts_of(details: Sequence[InputDetail]) -> tuple[SignedThought, ...]:
    """Return the thoughts that come back with what proves who made them."""
    found: list[SignedThought] = []
    text = ""
    for each in details:
        text += each.text or ""
        if each.data or each.signature:
            found.append(brought(text, each.data or each.signature or "", DIALECT))
            text = ""
    return tuple(found)


def detail_of(event: ThoughtSigned) -> ReasoningDetail:
    """Return what a stream tells of a thought that is over; its text has been told."""
    thought = SignedThought("" if event.redacted else "said", event.signature, event.origin)
    signature = carried(thought, DIALECT)
    if event.redacted:
        return ReasoningDetail("reasoning.encrypted", data=signature)
    return ReasoningDetail("reasoning.text", signature=signature)


def details_of(thoughts: Sequence[SignedThought]) -> list[ReasoningDetail]:
    """Return the thoughts of a whole answer that its server would have back as they were."""
    return [
        ReasoningDetail("reasoning.text", each.text, UNSET, carried(each, DIALECT))
        if each.text
        else ReasoningDetail("reasoning.encrypted", data=carried(each, DIALECT))
        for each in thoughts
    ]
