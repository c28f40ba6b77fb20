"""The items of OpenAI's responses: what was said, thought, called and returned, as turns."""

import base64
import secrets
from binascii import Error
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from ..engine.request import Refusal
from .chat import Message, ToolCall
from .decode import invalid, missing, present, shown, unsupported
from .media import image_of_url, titled_file, type_of
from .openai_shape import text_part
from .origin import brought
from .parts import Content, Document, Image, Kept, Text, said
from .tool_fields import checked_arguments

DIALECT = "responses"
SEALED = "bessemer."  # begins the encrypted_content of a thought of ours
SPEAKERS = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
JOINT = "__"  # between a tool's namespace and its name, as models see both


class Part(Struct, omit_defaults=True):
    type: str
    text: str | None = None
    refusal: str | None = None
    annotations: list[Raw] | None = None
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    prompt_cache_breakpoint: dict[str, str] | None = None


class Item(Struct, omit_defaults=True):
    """An item of any type, as it is sent or was stored; without a type it is a message."""

    type: str | None = None
    id: str | None = None
    status: str | None = None
    role: str | None = None
    content: str | list[Part] | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: str | None = None
    input: str | None = None
    output: str | list[Part] | None = None
    summary: list[Part] | None = None
    encrypted_content: str | None = None

    @property
    def kind(self) -> str:
        return self.type or ("message" if self.role else "item_reference" if self.id else "message")


PREFIXES = {
    "message": "msg_",
    "reasoning": "rs_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "custom_tool_call": "ctc_",
    "custom_tool_call_output": "ctco_",
}
DECODER = msgspec.json.Decoder(Item)


def new_id(kind: str) -> str:
    return PREFIXES[kind] + secrets.token_hex(24)


def sealed(thought: str) -> str:
    """Return a thought as `encrypted_content`, which a client sends back as it is.

    The client reads the thought beside it, so there is nothing to hide from it.
    """
    return SEALED + base64.b64encode(thought.encode()).decode()


def listed(item: Item) -> Item:
    """Return an item as lists of items have it: with an id, a type and its parts."""
    kind = item.kind
    about = structs.replace(item, type=kind, id=item.id or new_id(kind))
    if kind == "reasoning":
        return structs.replace(about, summary=item.summary or [])
    if kind == "message":
        parts = item.content or []
        if isinstance(parts, str):
            parts = [Part("output_text" if item.role == "assistant" else "input_text", parts)]
        about = structs.replace(about, content=[_listed_part(part) for part in parts])
    return structs.replace(about, status=item.status or "completed")


def _listed_part(part: Part) -> Part:
    is_output = part.type == "output_text"
    return structs.replace(part, annotations=part.annotations or []) if is_output else part


def tool_name(name: str, namespace: str | None) -> str:
    """Return the name by which a model calls a tool."""
    return f"{namespace}{JOINT}{name}" if namespace else name


def turns_of(items: Sequence[Item], place: str) -> tuple[Message, ...]:
    """Return the turns of a conversation: all that an assistant did in a row is one.

    Raises Refusal for items that are not built and for those that lack something.
    """
    turns = _Turns()
    for at, item in enumerate(items):
        where, kind = f"{place}[{at}]", item.kind
        if kind not in READERS:
            raise _unknown(kind, f"{where}.type")
        READERS[kind](turns, item, where)
    return turns.whole()


@dataclass(slots=True)
class _Turns:
    """The turns so far, and the assistant's that may go on."""

    turns: list[Message] = field(default_factory=list)
    last: Message | None = None  # of the assistant

    def add(self, turn: Message) -> None:
        self.end()
        self.turns.append(turn)

    def end(self) -> None:
        if self.last is not None:
            self.turns.append(self.last)
        self.last = None

    def whole(self) -> tuple[Message, ...]:
        self.end()
        return tuple(self.turns)

    def assistant(self, calling: bool = False) -> Message:
        """Return the assistant's turn that goes on: after a text, only with calls."""
        if self.last is not None and self.last.content and not (calling or self.last.calls):
            self.end()
        return self.last or Message("assistant")

    # What an item adds.

    def message(self, item: Item, place: str) -> None:
        role = item.role or "user"
        if role not in SPEAKERS:
            problem = f"must be one of {', '.join(SPEAKERS)}, not {shown(role)}"
            raise invalid(f"{place}.role", problem)
        content = _content(item.content, f"{place}.content")
        in_parts = isinstance(item.content, list)
        if role != "assistant":
            self.add(Message(SPEAKERS[role], content, in_parts=in_parts))
        else:
            turn = self.assistant()
            self.last = replace(turn, content=turn.content + content, in_parts=in_parts)

    def reasoning(self, item: Item, place: str) -> None:
        turn, thought = self.assistant(), _thought(item)
        signed = turn.signed
        if (seal := item.encrypted_content) and not seal.startswith(SEALED):
            signed = (*signed, brought(thought, seal, DIALECT))
        thoughts = filter(None, (turn.reasoning, thought))
        self.last = replace(turn, reasoning="\n".join(thoughts) or None, signed=signed)

    def function_call(self, item: Item, place: str) -> None:
        if item.status == "incomplete":  # its text stands in a message
            return
        self._call(item, checked_arguments(item.arguments), place)

    def custom_call(self, item: Item, place: str) -> None:
        if item.status != "incomplete":
            text = present(item.input, f"{place}.input")
            self._call(item, msgspec.json.encode({"input": text}).decode(), place)

    def _call(self, item: Item, arguments: str, place: str) -> None:
        name = tool_name(present(item.name, f"{place}.name"), item.namespace)
        call = ToolCall(present(item.call_id, f"{place}.call_id"), name, arguments)
        turn = self.assistant(calling=True)
        self.last = replace(turn, calls=(*turn.calls, call))

    def output(self, item: Item, place: str) -> None:
        content = _content(item.output, f"{place}.output")
        called = present(item.call_id, f"{place}.call_id")
        in_parts = isinstance(item.output, list)
        self.add(Message("tool", content, result_of=called, in_parts=in_parts))


READERS: Mapping[str, Callable[[_Turns, Item, str], None]] = {
    "message": _Turns.message,
    "reasoning": _Turns.reasoning,
    "function_call": _Turns.function_call,
    "custom_tool_call": _Turns.custom_call,
    "function_call_output": _Turns.output,
    "custom_tool_call_output": _Turns.output,
}


def _thought(item: Item) -> str:
    """Return a thought: as it was sealed here, as it was told, or at least its summary."""
    seal = item.encrypted_content or ""
    if seal.startswith(SEALED):
        try:
            return base64.b64decode(seal.removeprefix(SEALED), validate=True).decode()
        except (Error, UnicodeDecodeError):
            pass
    parts = item.content if isinstance(item.content, list) else []
    return "\n".join(_texts(parts)) or "\n".join(_texts(item.summary or []))


def _texts(parts: Sequence[Part]) -> Iterator[str]:
    return (part.text for part in parts if part.text)


def _content(content: str | list[Part] | None, place: str) -> Content:
    if isinstance(content, str):
        return said(content)
    if content is None:
        raise missing(place)
    return tuple(_part(part, f"{place}[{at}]") for at, part in enumerate(content))


def _part(part: Part, place: str) -> Text | Image | Document:
    kept: Kept = "" if part.prompt_cache_breakpoint is None else "5m"
    if part.type == "input_image":
        return _image(part, kept, place)
    if part.type == "input_file":
        return _file(part, kept, place)
    return text_part(part, place, "input_text", kept)


def _image(part: Part, kept: Kept, place: str) -> Image:
    about: dict[str, Any] = {"kept": kept, "field": f"{place}.type", "detail": part.detail}
    if part.file_id is not None:
        return Image(media_type="", file_id=part.file_id, **about)
    url = present(part.image_url, f"{place}.image_url")
    return image_of_url(url, f"{place}.image_url", **about)


def _file(part: Part, kept: Kept, place: str) -> Document:
    title = part.filename
    about: dict[str, Any] = {"kept": kept, "field": f"{place}.type"}
    if part.file_id is not None:
        return Document(media_type="", file_id=part.file_id, title=title, **about)
    if part.file_url is not None:
        return Document(media_type=type_of(title), url=part.file_url, title=title, **about)
    data = present(part.file_data, f"{place}.file_data")
    return titled_file(data, title, f"{place}.file_data", **about)


def _unknown(kind: str, place: str) -> Refusal:
    if kind == "item_reference":
        return invalid(place, "names an item that is not there")
    return unsupported(place, f"items of type {shown(kind)}")
