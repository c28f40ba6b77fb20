"""The endpoints that generate: one handler, whatever the dialect."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeVar

from ...engine.request import Refusal
from ...translate.chat import Answer, Completion, Event, Failure, GenerateRequest, Identity
from ...translate.dialect import CountDialect, Dialect, StreamEncoder
from ...translate.output import Collector
from ..backends import Backend, Backends
from ..framing import FRAMINGS, Framer
from ..message import HttpRequest, Reply, Response, StreamingResponse

QUICK = 100_000  # bytes of a body; the most hostile one of that size takes 3 ms to decode
Decoded = TypeVar("Decoded")


@dataclass(frozen=True, slots=True)
class Generate:
    """POST a conversation or a prompt, get an answer."""

    dialect: Dialect
    backends: Backends

    async def __call__(self, request: HttpRequest) -> Reply:
        generate = await decode_body(self.dialect.decode_request, request.body)
        backend = self.backends.find(generate.model)
        who = identity(self.dialect.prefix, backend)
        events = backend.events(replace(generate, client=request.caller))
        if not generate.options.stream:
            answer = await _collect(events, generate)
            return Response(200, self.dialect.encode_response(answer, who))
        encoder = self.dialect.stream(who, generate.options)
        framer = FRAMINGS[self.dialect.framing]()
        first = await anext(events)  # what is refused before it still has its own status
        headers = ((b"content-type", framer.media_type), (b"cache-control", b"no-cache"))
        return StreamingResponse(_body(first, events, encoder, framer), headers=headers)


@dataclass(frozen=True, slots=True)
class CountTokens:
    """POST a conversation, get the length of its prompt as the model would see it."""

    dialect: CountDialect
    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        chat = await decode_body(self.dialect.decode_request, request.body)
        tokens = await self.backends.find(chat.model).count(chat)
        return Response(200, self.dialect.encode_response(tokens))


def identity(prefix: str, backend: Backend) -> Identity:
    """Return who answers, under a new id."""
    return Identity(prefix + secrets.token_hex(12), int(time.time()), backend.name)


async def decode_body(decode: Callable[[bytes], Decoded], body: bytes) -> Decoded:
    """Decode a body, on the event loop only where nobody would notice."""
    return decode(body) if len(body) < QUICK else await asyncio.to_thread(decode, body)


async def _collect(events: AsyncGenerator[Event, None], request: GenerateRequest) -> Answer:
    prompts = len(request.prompts) if isinstance(request, Completion) else 1
    collector = Collector(prompts * request.options.n)
    async with aclosing(events):
        async for event in events:
            collector.add(event)
    return collector.answer()


async def _body(
    first: Event, events: AsyncGenerator[Event, None], encoder: StreamEncoder, framer: Framer
) -> AsyncGenerator[bytes, None]:
    """Yield the answer piece by piece; what goes wrong after the first event is one of them."""

    def framed(event: Event) -> bytes:
        return b"".join(map(framer.frame, encoder.encode(event)))

    async with aclosing(events):
        try:
            if data := framed(first):
                yield data
            async for event in events:
                if data := framed(event):
                    yield data
        except Refusal as refusal:
            yield framed(Failure(refusal))
    if data := framer.end():
        yield data
