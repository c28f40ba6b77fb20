"""The endpoints that generate: one handler, and a row for each dialect it speaks."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from ...engine.request import Refusal
from ...translate import anthropic, openai_chat, openai_completions
from ...translate.chat import (
    Answer,
    Chat,
    Completion,
    Event,
    Failure,
    Identity,
    Options,
    StreamEncoder,
)
from ...translate.output import Collector
from ..backends import Backends
from ..generate import Patience, answer, count
from ..message import HttpRequest, Reply, Response, StreamingResponse
from ..sse import frame

QUICK = 100_000  # bytes of a body; the most hostile one of that size takes 3 ms to decode
Ask = TypeVar("Ask")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How an endpoint reads a request and writes an answer, whole or streamed."""

    prefix: str  # of an answer's id
    decode: Callable[[bytes], Chat | Completion]
    encode: Callable[[Answer, Identity], bytes]
    stream: Callable[[Identity, Options], StreamEncoder]


CHAT = Dialect(
    "chatcmpl-", openai_chat.decode_request, openai_chat.encode_response, openai_chat.Stream
)
COMPLETIONS = Dialect(
    "cmpl-",
    openai_completions.decode_request,
    openai_completions.encode_response,
    openai_completions.Stream,
)
MESSAGES = Dialect("msg_", anthropic.decode_request, anthropic.encode_response, anthropic.Stream)


@dataclass(frozen=True, slots=True)
class Generates:
    """POST a conversation or a prompt, get an answer."""

    dialect: Dialect
    backends: Backends
    longest: int  # tokens of an answer
    patience: Patience

    async def __call__(self, request: HttpRequest) -> Reply:
        ask = await decoded(self.dialect.decode, request.body)
        local = self.backends.writer(ask.model)
        identity = Identity(
            self.dialect.prefix + secrets.token_hex(12), int(time.time()), local.name
        )
        events = answer(local, ask, self.longest, self.patience)
        if not ask.options.stream:
            return Response(200, self.dialect.encode(await _collect(events, ask), identity))
        encoder = self.dialect.stream(identity, ask.options)
        first = await anext(events)  # what is refused before it still has its own status
        return StreamingResponse(_frames(first, events, encoder))


@dataclass(frozen=True, slots=True)
class Counts:
    """POST /v1/messages/count_tokens: the length of a prompt as the model would see it."""

    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        ask = await decoded(anthropic.decode_count, request.body)
        tokens = await count(self.backends.writer(ask.model), ask)
        return Response(200, anthropic.encode_count(tokens))


async def decoded(decode: Callable[[bytes], Ask], body: bytes) -> Ask:
    """On the event loop only as long as nobody would notice."""
    return decode(body) if len(body) < QUICK else await asyncio.to_thread(decode, body)


async def _collect(events: AsyncGenerator[Event, None], ask: Chat | Completion) -> Answer:
    prompts = len(ask.prompts) if isinstance(ask, Completion) else 1
    collector = Collector(prompts * ask.options.n)
    async with aclosing(events):
        async for event in events:
            collector.add(event)
    return collector.answer()


async def _frames(
    first: Event, events: AsyncGenerator[Event, None], encoder: StreamEncoder
) -> AsyncGenerator[bytes, None]:
    """Server-sent events; what goes wrong after the first of them is one of them."""
    async with aclosing(events):
        try:
            if data := _encode(encoder, first):
                yield data
            async for event in events:
                if data := _encode(encoder, event):
                    yield data
        except Refusal as refusal:
            yield _encode(encoder, Failure(refusal))


def _encode(encoder: StreamEncoder, event: Event) -> bytes:
    return b"".join(map(frame, encoder.encode(event)))
