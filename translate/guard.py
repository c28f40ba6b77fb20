"""Conversations in which no text of a client's can become a control token."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import json

from ..engine.text.control import ControlTokens
from .chat import Chat, Document, Message, Part, Text, Tool, ToolCall, said

# A template's way to the text after a thought: split at its end, the rest or the last piece of it.
AFTER = (
    r"""split\(\s*['"]{}['"]\s*(?:\)\s*\[\s*-1|(?P<first>,\s*1\s*\)\s*\[\s*1))\s*\]"""
    r"""(?:\.(?P<strip>l?strip)\(\s*['"]\\n['"]\s*\))?"""
)
STRIPS: Mapping[str | None, Callable[[str], str]] = {
    None: str,
    "lstrip": lambda text: text.lstrip("\n"),
    "strip": lambda text: text.strip("\n"),
}
ROLES = frozenset({"system", "user", "assistant", "tool"})  # ours: markers are made of them


@dataclass(frozen=True, slots=True)
class ThoughtReading:
    """The way a template takes a thought out of an assistant's text, between two control tokens.

    It `tells` the model the thought by itself, or else forgets it. The text is what comes after the
    `first` closing mark or the last, without newlines where `strip` takes them away.
    """

    open: str
    close: str
    tells: bool
    first: bool
    strip: Callable[[str], str]

    def apart(self, message: Message) -> Message:
        """Return the message as the template reads it: these tokens may not stay in its text."""
        text = message.text
        if message.role != "assistant" or message.reasoning or self.close not in text:
            return message
        thought, _, rest = text.partition(self.close)
        answer = said(self.strip(rest if self.first else rest.split(self.close)[-1]))
        if not self.tells:
            return replace(message, content=answer)
        thought = thought.rstrip("\n").split(self.open)[-1].lstrip("\n")
        return replace(message, content=answer, reasoning=thought or None)


def reading(marks: tuple[str, ...], control: ControlTokens, template: str) -> ThoughtReading | None:
    """Return how a template reads thoughts; None where it does not, or by no control token."""
    if not marks:
        return None
    opening, closing = marks
    taken = re.search(AFTER.format(re.escape(closing)), template)
    if closing not in control.tokens or taken is None:
        return None
    quoted = any(f"{quote}{opening}{quote}" in template for quote in "'\"")
    tells = quoted and "reasoning_content" in template
    return ThoughtReading(opening, closing, tells, bool(taken["first"]), STRIPS[taken["strip"]])


@dataclass(frozen=True, slots=True)
class ChatGuard:
    """What keeps the texts of conversations from becoming control tokens."""

    control: ControlTokens
    reading: ThoughtReading | None = None

    def guarded(self, chat: Chat) -> Chat:
        """Return a conversation with guards in all texts that need one; most need none."""
        if self.reading is not None:
            apart = tuple(map(self.reading.apart, chat.messages))
            chat = replace(chat, messages=apart)
        search = _Search(self.control)
        _mapped(chat, search)
        if not search.needed:
            return chat
        guard = self.control.free_guard(search.texts)
        return replace(_mapped(chat, _Guarding(self.control, guard)), guard=guard)


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


_Change = _Search | _Guarding


def _mapped(chat: Chat, change: _Change) -> Chat:
    return replace(
        chat,
        messages=tuple(_message(message, change) for message in chat.messages),
        tools=tuple(_tool(tool, change) for tool in chat.tools),
        template={key: _value(value, change.text) for key, value in chat.template.items()},
    )


def _message(message: Message, change: _Change) -> Message:
    """Change a message; of its role and name templates may make markers: "<|" + role + "|>"."""
    own = message.role == "assistant"
    return replace(
        message,
        role=message.role if message.role in ROLES else change.text(message.role, alone=True),
        content=tuple(_part(part, change, own) for part in message.content),
        reasoning=message.reasoning and change.text(message.reasoning, own),
        name=message.name and change.text(message.name, alone=True),
        calls=tuple(_call(call, change) for call in message.calls),
        result_of=message.result_of and change.text(message.result_of),
    )


def _part(part: Part, change: _Change, own: bool) -> Part:
    if isinstance(part, Text):
        return Text(change.text(part.text, own, alone=True))
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
