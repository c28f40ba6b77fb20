"""Conversations in which no text of a client's can become a control token."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from msgspec import json

from ..engine.text.control import ControlTokens
from .chat import Chat, Message, Tool, ToolCall
from .parts import Document, Part, Text

ROLES = frozenset({"system", "user", "assistant", "tool"})  # ours: markers are made of them


@dataclass(frozen=True, slots=True)
class ThoughtReading:
    """The marks, control tokens, between which a template takes a thought out of an answer."""

    open: str
    close: str

    def changed(self, text: str, change: Callable[[str], str]) -> str:
        """Change a text but for the marks of its first thought, which the template looks for."""
        thought, close, after = text.partition(self.close)
        if not close:
            return change(text)
        before, opening, thought = thought.partition(self.open)
        return f"{change(before)}{opening}{change(thought)}{close}{change(after)}"

    def place(self, message: Message) -> int | None:
        """Return the number of the part in which the template finds a thought, if it looks."""
        if message.role != "assistant" or message.reasoning:
            return None
        texts = [part.text if isinstance(part, Text) else "" for part in message.content]
        return next((at for at, text in enumerate(texts) if self.close in text), None)


def reading(marks: tuple[str, ...], control: ControlTokens, template: str) -> ThoughtReading | None:
    """Return how a template reads thoughts; None where it does not, or by no control token."""
    if not marks:
        return None
    opening, closing = marks
    looked_for = re.search(rf"""split\(\s*['"]{re.escape(closing)}['"]""", template)
    if closing not in control.tokens or looked_for is None:
        return None
    return ThoughtReading(opening, closing)


@dataclass(frozen=True, slots=True)
class ChatGuard:
    """What keeps the texts of conversations from becoming control tokens."""

    control: ControlTokens
    reading: ThoughtReading | None = None

    def guarded(self, chat: Chat) -> Chat:
        """Return a conversation with guards in all texts that need one; most need none."""
        search = _Search(self.control)
        _mapped(chat, search, self.reading)
        if not search.needed:
            return chat
        guard = self.control.free_guard(search.texts)
        guarding = _Guarding(self.control, guard)
        return replace(_mapped(chat, guarding, self.reading), guard=guard)


@dataclass(slots=True)
class _Search:
    """A search for texts that need a guard, which changes none."""

    control: ControlTokens
    needed: bool = False
    texts: list[str] = field(default_factory=list)

    def text(self, text: str, own: bool = False, alone: bool = False) -> str:
        self.texts.append(text)
        self.needed = self.needed or self.control.needs_guard(text, own, alone)
        return text


@dataclass(frozen=True, slots=True)
class _Guarding:
    """A change of texts: those that need it get guards."""

    control: ControlTokens
    guard: str

    def text(self, text: str, own: bool = False, alone: bool = False) -> str:
        return self.control.guarded(text, self.guard, own, alone)


@dataclass(frozen=True, slots=True)
class _Removal:
    """A change of texts back to what they were."""

    guard: str

    def text(self, text: str, own: bool = False, alone: bool = False) -> str:
        return text.replace(self.guard, "") if self.guard else text


_Change = _Search | _Guarding | _Removal


def offered(chat: Chat) -> tuple[Tool, ...]:
    """Return the tools that a conversation offers, as they were before it was guarded."""
    if not chat.guard:
        return chat.offered
    removal = _Removal(chat.guard)
    return tuple(_tool(tool, removal) for tool in chat.offered)


def _mapped(chat: Chat, change: _Change, reading: ThoughtReading | None) -> Chat:
    return replace(
        chat,
        messages=tuple(_message(message, change, reading) for message in chat.messages),
        tools=tuple(_tool(tool, change) for tool in chat.tools),
        template={key: _value(value, change.text) for key, value in chat.template.items()},
    )


def _message(message: Message, change: _Change, reading: ThoughtReading | None) -> Message:
    """Change a message; of its role and name templates may make markers: "<|" + role + "|>"."""
    own = message.role == "assistant"
    place = None if reading is None else reading.place(message)
    return replace(
        message,
        role=message.role if message.role in ROLES else change.text(message.role, alone=True),
        content=tuple(
            _part(part, change, own, reading if at == place else None)
            for at, part in enumerate(message.content)
        ),
        reasoning=message.reasoning and change.text(message.reasoning, own),
        name=message.name and change.text(message.name, alone=True),
        calls=tuple(_call(call, change) for call in message.calls),
        result_of=message.result_of and change.text(message.result_of),
    )


def _part(part: Part, change: _Change, own: bool, reading: ThoughtReading | None) -> Part:
    if isinstance(part, Text):
        guard = partial(change.text, own=own, alone=True)
        return Text(reading.changed(part.text, guard) if reading else guard(part.text))
    if isinstance(part, Document) and part.title:
        return replace(part, title=change.text(part.title))
    return part


def _tool(tool: Tool, change: _Change) -> Tool:
    return replace(
        tool,
        name=change.text(tool.name),
        description=tool.description and change.text(tool.description),
        parameters=_value(tool.parameters, change.text),
    )


def _call(call: ToolCall, change: _Change) -> ToolCall:
    return replace(
        call,
        id=change.text(call.id),
        name=change.text(call.name),
        arguments=_arguments(call.arguments, change),
    )


def _arguments(text: str, change: _Change) -> str:
    """Change a call's arguments as templates see them, which is not as JSON may spell them."""
    try:
        before = json.decode(text)
    except ValueError:  # the template has to take or refuse it
        return change.text(text)
    after = _value(before, change.text)
    return text if after == before else json.encode(after).decode()


def _value(value: Any, change: Callable[[str], str]) -> Any:
    """Change all texts of a JSON value, and the names of its fields."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(str(key)): _value(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_value(each, change) for each in value]
    return value
