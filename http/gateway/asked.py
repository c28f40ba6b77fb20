"""What a route or a tier gives the requests that go its way."""

from dataclasses import replace

from ...translate.chat import Chat, GenerateRequest, Message
from ...translate.parts import said
from .schema import AskedTable


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
    if not isinstance(request, Chat):
        return replace(request, options=options)
    messages, reasoning = request.messages, request.reasoning
    if asked.system and messages:
        messages = (Message("system", said(asked.system)), *messages)
    if reasoning.enabled is None and asked.thinking is not None:
        reasoning = replace(reasoning, enabled=asked.thinking)
    return replace(request, options=options, messages=messages, reasoning=reasoning)


def asks(asked: AskedTable) -> bool:
    """Return whether a table changes any request, which then does not go on as it is."""
    return any(getattr(asked, name) is not None for name in AskedTable.__struct_fields__)
