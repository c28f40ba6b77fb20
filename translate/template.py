"""A model's chat template, which turns a Chat into a prompt, in a sandbox."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from jinja2 import Template, TemplateSyntaxError
from msgspec import json

from ..engine.request import Refusal
from ..engine.sandbox import FAULTS, Objection, sandbox
from .chat import Chat, Message, ToolCall
from .parsers.tool_formats import AUTO, choose_tools
from .parts import Text
from .template_source import LONGEST, broken, no_template
from .trial import THOUGHTS, Fields, Habits, functions, habits, thought_part
from .turns import Turns, arrangements

LONGEST_REASON = 1000  # characters of what a template says
SERVERS_OWN = frozenset({"messages", "tools"})
SPECIAL_TOKENS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
SWITCHES = ("enable_thinking", "add_generation_prompt")


class _Overlong(Exception):
    """A prompt went beyond its limit while it was rendered."""


class ChatTemplate:
    """A model's template; `source` is None for a model that comes without one.

    `tool_parser` names the format in which calls are written where it does not write them.
    `fault` says why it cannot be used, `habits` what it shows of a conversation.
    """

    def __init__(
        self,
        source: str | None,
        special_tokens: Mapping[str, str] | None = None,
        now: Callable[[], datetime] = datetime.now,
        tool_parser: str = AUTO,
    ) -> None:
        self._tokens = special_tokens or {}
        self.fault = ""
        self.habits = Habits()
        self._template: Template | None = None
        self._reserved = SERVERS_OWN | {f"{name}_token" for name in SPECIAL_TOKENS}
        self._tool_parser = tool_parser
        if source is not None:
            self._compile(source, now)

    def render(self, chat: Chat, limit: int = LONGEST) -> str:
        """Return the prompt, of `limit` characters at most; what is refused is arranged anew."""
        template = self._compiled()
        context = self._context(chat)
        fault: Exception | None = None
        for turns in arrangements(self.habits.settled(chat.messages, chat.listed)):
            if chat.continue_final and turns[-1].role != chat.messages[-1].role:
                continue
            try:
                return self._render(template, context, turns, chat.continue_final, limit)
            except MemoryError:
                raise broken("it takes too much memory") from None
            except _Overlong:
                raise _overlong(chat, limit) from None
            except FAULTS as error:
                fault = fault or error
        fault = fault or Objection("the last message cannot be continued")
        raise self._refusal(fault, chat, limit)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth a line in the log once."""
        if self.fault:
            return (f"the chat template cannot be used ({self.fault})",)
        if self.habits.fault is not None:
            reason = str(self.habits.fault) or type(self.habits.fault).__name__
            return (f"the chat template cannot take a short question ({reason})",)
        if not self.habits.system:
            return ("the chat template has no system message: the user's first turn has it",)
        return ()

    def _compile(self, source: str, now: Callable[[], datetime]) -> None:
        try:
            self._template = template = sandbox(now).from_string(source)
        except TemplateSyntaxError as error:
            self.fault = f"line {error.lineno}: {error.message}"
            return
        except FAULTS as error:
            self.fault = str(error) or type(error).__name__
            return
        self._reserved |= template.globals.keys()
        context = self._context(Chat("", ()))

        def render(messages: Sequence[Fields], tools: Sequence[Fields]) -> str:
            return _text(template, {**context, "tools": tools or None}, messages, LONGEST)

        try:
            self.habits = habits(render, choose_tools(source, (), self._tool_parser).shape)
        except _Overlong:
            self._template, self.fault = None, f"it writes more than {LONGEST} characters"

    def _compiled(self) -> Template:
        if self._template is not None:
            return self._template
        if self.fault:
            raise broken(self.fault)
        raise no_template()

    def _context(self, chat: Chat) -> dict[str, Any]:
        for name, value in chat.template.items():
            if name in self._reserved or name in self._tokens:
                raise _invalid(f"must not set {name}; the server sets it")
            if name in SWITCHES and not isinstance(value, bool | None):
                raise _invalid(f"must set {name} to true or false")
        tools = functions(chat.listed, not self.habits.bare) if self.habits.tools else None
        fixed = {**self._tokens, "tools": tools or None, "messages": None}
        # Templates ask whether documents are none, as transformers lets them.
        return {"add_generation_prompt": True, "documents": None, **chat.template, **fixed}

    def _render(
        self, template: Template, context: Fields, turns: Turns, go_on: bool, limit: int
    ) -> str:
        messages = [_fields(turn, self.habits) for turn in turns]
        if not go_on:
            return _text(template, context, messages, limit)
        mark = f"\ue000{secrets.token_hex(8)}\ue000"  # no client can have written it
        _mark_end(messages[-1], f"{mark} ")
        context = {**context, "add_generation_prompt": False}
        prompt, found, after = _text(template, context, messages, limit).rpartition(mark)
        if not found:
            raise Objection("the chat template does not show the last message, to be continued")
        # As transformers: where the template trims a content, what it goes on from is trimmed.
        return prompt if after.startswith(" ") else prompt.rstrip()

    def _refusal(self, fault: Exception, chat: Chat, limit: int) -> Refusal:
        """Return what the client is told: its settings, its conversation or the template is odd."""
        if chat.template:
            try:
                self.render(replace(chat, template={}), limit)
            except Refusal:
                pass
            else:
                names = ", ".join(map(repr, chat.template))
                return _invalid(f"({names}) do not suit the chat template: {_reason(fault)}")
        if not isinstance(fault, Objection):
            return broken(_reason(fault))
        message = f"The model's chat template refuses this conversation: {_reason(fault)}"
        return Refusal(400, "invalid_conversation", message, "messages")


def _fields(message: Message, habits: Habits) -> Fields:
    thought = dict.fromkeys(THOUGHTS, message.reasoning)
    calls = [_call(call, habits.text_arguments) for call in message.calls] or None
    names = {"name": message.name, "tool_call_id": message.result_of, "tool_calls": calls}
    more = {key: value for key, value in {**thought, **names}.items() if value is not None}
    texts = [part.text for part in message.content if isinstance(part, Text)]
    content = habits.form(message.role).content(texts, message.in_parts)
    if message.reasoning and habits.thought_parts:
        content = [thought_part(message.reasoning), *({"type": "text", "text": t} for t in texts)]
        texts, more = [message.reasoning], {k: v for k, v in more.items() if k not in thought}
    silent = calls is not None and habits.null_content and not texts
    return {"role": message.role, "content": None if silent else content, **more}


def _call(call: ToolCall, as_text: bool) -> dict[str, Any]:
    arguments = call.arguments if as_text else call.values
    function = {"name": call.name, "arguments": arguments}
    return {"type": "function", "id": call.id, "function": function}


def _mark_end(message: Fields, mark: str) -> None:
    content = message["content"]
    if isinstance(content, str):
        message["content"] = content + mark
    else:
        content[-1]["text"] += mark


def _text(template: Template, context: Fields, messages: Sequence[Fields], limit: int) -> str:
    pieces: list[str] = []
    size = 0
    for piece in template.generate(context, messages=messages):
        size += len(piece)
        if size > limit:
            raise _Overlong
        pieces.append(piece)
    prompt = "".join(pieces)
    prompt.encode()  # a template's own "\ud800" would otherwise fail far from here
    return prompt


def _reason(fault: Exception) -> str:
    text = str(fault)[:LONGEST_REASON].encode(errors="replace").decode()
    return text if isinstance(fault, Objection) else f"{type(fault).__name__}: {text}"


def _invalid(problem: str) -> Refusal:
    field = "chat_template_kwargs"
    return Refusal(400, "invalid_value", f"{field} {problem}.", field)


def _overlong(chat: Chat, limit: int) -> Refusal:
    """Blame who wrote most of the prompt."""
    given = len(json.encode((chat.messages, chat.tools, chat.template)))
    if given * 8 < limit:
        return broken(f"it writes more than {limit} characters for {given} of this request")
    message = (
        f"The prompt has more than {limit} characters, far more than this model's context can "
        "hold: shorten it."
    )
    return Refusal(400, "context_length_exceeded", message)
