"""The tokens of answers that were passed on as they came, by what their own servers say."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

import msgspec
from msgspec import Struct, structs

from ...translate.chat import (
    AnswerStarted,
    ArgumentsDelta,
    Done,
    Event,
    Progress,
    ReasoningDelta,
    TextDelta,
    Usage,
)
from ..message import Reply, StreamingResponse

Spent = Callable[[Usage], None]
SIGNS = b"usage", b"eval_count"  # one of which is in whatever tells of tokens
DATA = b"data:"
TELLING = (AnswerStarted, Progress, Done)
PIECES = (TextDelta, ReasoningDelta, ArgumentsDelta)


class _Details(Struct):
    cached_tokens: int | None = None


class _Usage(Struct):
    """The names of OpenAI's two dialects and of Anthropic's; prompts have cached tokens in them,
    but for Anthropic's."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Within(Struct):
    usage: _Usage | None = None


class _Telling(_Within):
    """What tells of tokens: an answer, or an event that has one, or Ollama's counts."""

    message: _Within | None = None
    response: _Within | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None


DECODER = msgspec.json.Decoder(_Telling)


def usage_told(data: bytes) -> Usage | None:
    """Return the tokens that a JSON document tells of, if it does."""
    try:
        told = DECODER.decode(data)
    except ValueError:
        return None
    if told.prompt_eval_count is not None or told.eval_count is not None:
        return Usage(told.prompt_eval_count or 0, told.eval_count or 0)
    nested = (each.usage for each in (told, told.message, told.response) if each is not None)
    usage = next((each for each in nested if each is not None), None)
    return None if usage is None else _usage(usage)


def _usage(usage: _Usage) -> Usage:
    details = usage.prompt_tokens_details or usage.input_tokens_details or _Details()
    read, created = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    prompt = (usage.prompt_tokens or usage.input_tokens or 0) + read + created
    cached = details.cached_tokens or read
    return Usage(
        prompt, usage.completion_tokens or usage.output_tokens or 0, cached, created=created
    )


class Meter:
    """Sums up what the events of one stream tell, which may each tell a part, or all so far."""

    def __init__(self) -> None:
        self.usage = Usage(0, 0)

    def read(self, chunk: bytes) -> None:
        """Read whole events, framed."""
        if not any(sign in chunk for sign in SIGNS):
            return
        for line in chunk.splitlines():
            if told := usage_told(line.removeprefix(DATA)):
                self.usage = _larger(self.usage, told)


def _larger(first: Usage, second: Usage) -> Usage:
    created = max(first.created or 0, second.created or 0)
    prompt, completion = max(first.prompt, second.prompt), max(first.completion, second.completion)
    return Usage(prompt, completion, max(first.cached, second.cached), created=created)


def metered(reply: Reply, spent: Spent) -> Reply:
    """Return a reply whose tokens are told to `spent` once it is over, or given up."""
    if isinstance(reply, StreamingResponse):
        return replace(reply, chunks=_metered(reply.chunks, spent))
    if reply.status < 300 and (usage := usage_told(reply.body)):
        spent(usage)
    return reply


async def _metered(
    chunks: AsyncGenerator[bytes, None], spent: Spent
) -> AsyncGenerator[bytes, None]:
    meter = Meter()
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                meter.read(chunk)
                yield chunk
    finally:
        spent(meter.usage)


async def counted(events: AsyncGenerator[Event, None], spent: Spent) -> AsyncGenerator[Event, None]:
    """Yield the events of an answer, and tell its tokens when it is over, or given up.

    What is given up has as many tokens as there were pieces of it.
    """
    usage, pieces = Usage(0, 0), 0
    try:
        async with aclosing(events):
            async for event in events:
                if isinstance(event, TELLING):
                    usage, pieces = event.usage, 0
                pieces += isinstance(event, PIECES)
                yield event
    finally:
        spent(structs.replace(usage, completion=usage.completion + pieces))
