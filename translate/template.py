"""A model's chat template: Chat to prompt, in a sandbox."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypedDict

from jinja2 import Template, TemplateSyntaxError

from ..engine.request import Refusal
from ..engine.sandbox import FAULTS, Objection, sandbox
from .chat import Chat, Message
from .parsers.think import CLOSE, OPEN

# Marks where the last message's content ends, for a prompt that goes on in it.
END_OF_FINAL = "\ue000end of final message\ue000"


class NamedTemplate(TypedDict):
    name: str
    template: str


class ChatTemplate:
    """`source` is None for a model that comes without a template."""

    def __init__(
        self,
        source: str | None,
        bos_token: str | None = None,
        eos_token: str | None = None,
        special_tokens: Mapping[str, str] | None = None,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        tokens = {"bos_token": bos_token, "eos_token": eos_token, **(special_tokens or {})}
        self._tokens = {name: token for name, token in tokens.items() if token is not None}
        self._fault = ""
        self._template: Template | None = None
        if source is not None:
            self._compile(source, now)

    def render(self, chat: Chat, tools: Sequence[Mapping[str, Any]] | None = None) -> str:
        """The prompt; a conversation that the template objects to is tidied and tried again."""
        template = self._compiled()
        context = self._context(chat, tools)
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

    def _context(self, chat: Chat, tools: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
        own = {**self._tokens, "tools": tools, "messages": None}
        for name in chat.template:
            if name in own:
                message = f"chat_template_kwargs must not set {name}; the server sets it."
                raise Refusal(400, "invalid_value", message, "chat_template_kwargs")
        # Templates ask whether documents are none, as transformers lets them.
        return {"add_generation_prompt": True, "documents": None, **chat.template, **own}

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
    """The template to use of tokenizer_config.json's `chat_template`, which may be several."""
    if isinstance(source, str):
        return source
    named = {entry["name"]: entry["template"] for entry in source}
    return named.get("default") or next(iter(named.values()), None)


def opens_reasoning(prompt: str, chat: Chat | None = None) -> bool:
    """Whether the answer begins inside a <think> block that the prompt has opened.

    A tag elsewhere in the prompt is a matter of the conversation; but a final message that is
    continued (`chat` says so) may have opened a block as well.
    """
    if prompt.rstrip().endswith(OPEN):
        return True
    if chat is None or not chat.continue_final:
        return False
    content = chat.messages[-1].content
    return content.lstrip().startswith(OPEN) and CLOSE not in content


def tidy(chat: Chat) -> Chat:
    """The conversation in the order that strict templates want: one system message, then turns."""
    ordered = sorted(chat.messages, key=lambda message: message.role != "system")
    merged: list[Message] = []
    for message in ordered:
        if merged and merged[-1].role == message.role:
            merged[-1] = _merge(merged[-1], message)
        else:
            merged.append(message)
    return replace(chat, messages=tuple(merged))


def _merge(first: Message, second: Message) -> Message:
    content = "\n\n".join(m.content for m in (first, second) if m.content)
    reasoning = "\n\n".join(m.reasoning for m in (first, second) if m.reasoning)
    return replace(first, content=content, reasoning=reasoning or None)


def _fields(message: Message) -> dict[str, Any]:
    # Some templates know an earlier thought by the one name, some by the other.
    thought = {"thinking": message.reasoning, "reasoning_content": message.reasoning}
    optional = {**thought, "name": message.name}
    given = {key: value for key, value in optional.items() if value is not None}
    return {"role": message.role, "content": message.content, **given}


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
