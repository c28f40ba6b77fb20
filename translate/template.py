"""A model's chat template, which turns a Chat into a prompt, in a sandbox."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from jinja2 import Template, TemplateSyntaxError
from msgspec import json

from ..engine.request import Refusal
from ..engine.sandbox import FAULTS, Objection, sandbox
from ..engine.text.tokenizer import NamedTemplate
from .chat import Chat, Message, Tool, ToolCall, said

# Marks where the last message's content ends, for a prompt that goes on in it.
END_OF_FINAL = "\ue000end of final message\ue000"


class ChatTemplate:
    """A model's template; `source` is None for a model that comes without one."""

    def __init__(
        self,
        source: str | None,
        special_tokens: Mapping[str, str] | None = None,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._tokens = special_tokens or {}
        self._fault = ""
        self._template: Template | None = None
        if source is not None:
            self._compile(source, now)

    def render(self, chat: Chat) -> str:
        """Return the prompt; a conversation that the template refuses is tidied and tried again."""
        template = self._compiled()
        context = self._context(chat)
        try:
            return self._render(template, context, chat)
        except FAULTS as error:
            tidied = tidy(chat)
            if tidied.messages == chat.messages:
                raise _refusal(error) from None
        try:
            return self._render(template, context, tidied)
        except FAULTS as error:
            raise _refusal(error) from None

    def _compile(self, source: str, now: Callable[[], datetime]) -> None:
        try:
            self._template = sandbox(now).from_string(source)
        except TemplateSyntaxError as error:
            self._fault = f"line {error.lineno}: {error.message}"
        except FAULTS as error:
            self._fault = str(error) or type(error).__name__

    def _compiled(self) -> Template:
        if self._template is not None:
            return self._template
        if self._fault:
            raise _broken(self._fault)
        message = (
            "This model has no chat template, so it cannot hold a conversation; "
            "/v1/completions works with it."
        )
        raise Refusal(400, "no_chat_template", message, "model")

    def _context(self, chat: Chat) -> dict[str, Any]:
        fixed = {**self._tokens, "tools": [*map(_function, chat.tools)] or None, "messages": None}
        for name in chat.template:
            if name in fixed:
                message = f"chat_template_kwargs must not set {name}; the server sets it."
                raise Refusal(400, "invalid_value", message, "chat_template_kwargs")
        # Templates ask whether documents are none, as transformers lets them.
        return {"add_generation_prompt": True, "documents": None, **chat.template, **fixed}

    def _render(self, template: Template, context: dict[str, Any], chat: Chat) -> str:
        messages = [_fields(message) for message in chat.messages]
        if not chat.continue_final:
            return _encodable(template.render(context, messages=messages))
        messages[-1]["content"] += END_OF_FINAL
        context = {**context, "messages": messages, "add_generation_prompt": False}
        prompt, mark, _ = _encodable(template.render(context)).rpartition(END_OF_FINAL)
        if not mark:
            raise Objection("the chat template does not show the last message, to be continued")
        return prompt


def pick(source: str | Sequence[NamedTemplate]) -> str | None:
    """Return the template to use of tokenizer_config.json's `chat_template`, maybe several."""
    if isinstance(source, str):
        return source
    templates = {entry["name"]: entry["template"] for entry in source}
    return templates.get("default") or next(iter(templates.values()), None)


def tidy(chat: Chat) -> Chat:
    """Order a conversation as strict templates want it: one system message, then turns."""
    ordered = sorted(chat.messages, key=lambda message: message.role != "system")
    merged: list[Message] = []
    for message in ordered:
        if merged and merged[-1].role == message.role:
            merged[-1] = _merge(merged[-1], message)
        else:
            merged.append(message)
    return replace(chat, messages=tuple(merged))


def _merge(first: Message, second: Message) -> Message:
    content = said("\n\n".join(m.text for m in (first, second) if m.text))
    reasoning = "\n\n".join(m.reasoning for m in (first, second) if m.reasoning)
    return replace(first, content=content, reasoning=reasoning or None)


def _fields(message: Message) -> dict[str, Any]:
    # Some templates know an earlier thought by the one name, some by the other.
    thought = {"thinking": message.reasoning, "reasoning_content": message.reasoning}
    calls = [*map(_call, message.calls)] or None
    names = {"name": message.name, "tool_call_id": message.result_of, "tool_calls": calls}
    more = {key: value for key, value in {**thought, **names}.items() if value is not None}
    return {"role": message.role, "content": message.text, **more}


def _function(tool: Tool) -> dict[str, Any]:
    """Return a tool as transformers' templates know it, which is OpenAI's way."""
    fields = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    function = {key: value for key, value in fields.items() if value is not None}
    return {"type": "function", "function": function}


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json.decode(call.arguments)}
    return {"type": "function", "id": call.id, "function": function}


def _encodable(prompt: str) -> str:
    prompt.encode()  # a template's own "\ud800" would otherwise fail far from here
    return prompt


def _refusal(error: Exception) -> Refusal:
    text = str(error).encode(errors="replace").decode()
    if not isinstance(error, Objection):
        return _broken(f"{type(error).__name__}: {text}")
    message = f"The model's chat template refuses this conversation: {text}"
    return Refusal(400, "invalid_conversation", message, "messages")


def _broken(reason: str) -> Refusal:
    message = f"The model's chat template is broken ({reason}); /v1/completions works without it."
    return Refusal(500, "broken_chat_template", message)
