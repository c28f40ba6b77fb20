"""What a route or a tier gives the requests that go its way."""

from dataclasses import replace
from typing import overload

from ...translate.chat import Chat, Completion, GenerateRequest, Message
from ...translate.parts import said
from .schema import AskedTable


@overload
def with_asked(request: Chat, asked: AskedTable) -> Chat: ...
@overload
def with_asked(request: Completion, asked: AskedTable) -> Completion: ...
def with_asked(request: GenerateRequest, asked: AskedTable) -> GenerateRequest:
    """Return a request with a table's defaults where it says nothing, and within its caps.

    A system message goes before the request's own; bare prompts have no place for one.
    """
    options = request.options
    most = asked.max_tokens if options.max_tokens is None else options.max_tokens
    if asked.max_tokens_cap is not None:
        most = asked.max_tokens_cap if most is None else min(most, asked.max_tokens_cap)
    warm = asked.temperature if options.temperature is None else options.temperature
    options = replace(options, max_tokens=most, temperature=warm)
    if isinstance(request, Chat):
        return replace(_with_turns(request, asked), options=options)
    return replace(request, options=options)


def _with_turns(chat: Chat, asked: AskedTable) -> Chat:
    if asked.system and chat.messages:
        system = Message("system", said(asked.system))
        chat = replace(chat, messages=(system, *chat.messages))
    if chat.reasoning.enabled is None and asked.thinking is not None:
        chat = replace(chat, reasoning=replace(chat.reasoning, enabled=asked.thinking))
    return chat


def asks(asked: AskedTable) -> bool:
    """Return whether a table changes any request, which then does not go on as it is."""
    return any(getattr(asked, name) is not None for name in AskedTable.__struct_fields__)
