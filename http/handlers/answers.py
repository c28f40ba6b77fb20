"""The endpoints that generate: one handler, whatever the dialect."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ...engine.request import Refusal
from ...translate.chat import (
    AnswerStarted,
    Chat,
    Completion,
    Event,
    Failure,
    GenerateRequest,
    Identity,
    StreamFormat,
)
from ...translate.dialect import CountDialect, Dialect, Framing, StreamEncoder
from ...translate.output import Collector
from ..auth import key_of
from ..backends import Backend, Backends, Estimate
from ..body import Body
from ..framing import FRAMINGS, Framer
from ..gateway.asked import with_asked
from ..gateway.metering import counted
from ..message import JSON, Headers, HttpRequest, Reply, Response, StreamingResponse

QUICK = 8192  # bytes of a body; the most hostile one of that size takes 2 ms to decode
Decoded = TypeVar("Decoded")
Asked = TypeVar("Asked", Chat, GenerateRequest)


@dataclass(frozen=True, slots=True)
class Streaming:
    """The settings of streams: the format where a dialect has others, the tokens of a piece."""

    format: StreamFormat = "sse"
    chunk: int = 1


@dataclass(frozen=True, slots=True)
class Generate:
    """POST a conversation or a prompt, get an answer."""

    dialect: Dialect
    backends: Backends
    streaming: Streaming = Streaming()
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # of encoding large answers

    async def __call__(self, request: HttpRequest) -> Reply:
        generate = await decode_body(self.dialect.decode_request, request.body)
        generate = self._settled(generate)
        backend = self.backends.find(generate.model, request.meant)
        who = identity(self.dialect.prefix, backend)
        events = answering(backend, generate, request)
        first = await anext(events)  # what is refused before it still has its own status
        request.body.drop()  # the prompt is read
        if not generate.options.stream:
            async with aclosing(events):  # what it keeps counts until it is encoded
                answer = await _collect(first, events, generate)
                return Response(200, await self._encoded(answer, who), (*JSON, *notes(first)))
        framer = FRAMINGS[self._framing(generate)]()
        body = _Body(self.dialect.stream(who, generate.options), framer)
        headers = ((b"content-type", framer.media_type), (b"cache-control", b"no-cache"))
        chunks = body.chunks(first, events)
        return StreamingResponse(chunks, 200, (*headers, *notes(first)), body.failure)

    def _settled(self, request: GenerateRequest) -> GenerateRequest:
        """Return a request with what it leaves to the server of how it is streamed."""
        options, usual = request.options, self.streaming
        format = (options.stream_format or usual.format) if self.dialect.formats else None
        chunk = options.stream_chunk or usual.chunk
        stream = options.stream and format != "json_array"
        settled = replace(options, stream=stream, stream_format=format, stream_chunk=chunk)
        return replace(request, options=settled)

    def _framing(self, request: GenerateRequest) -> Framing:
        lines = request.options.stream_format == "json_lines"
        return "json_lines" if lines else self.dialect.framing

    async def _encoded(self, collected: Collector, who: Identity) -> bytes:
        """Encode an answer; a large one, up to seconds of work, beside the loop and in turn."""
        if not collected.large:
            return self.dialect.encode_response(collected.answer(), who)
        async with self.turn:
            return await asyncio.to_thread(self._encode, collected, who)

    def _encode(self, collected: Collector, who: Identity) -> bytes:
        try:
            return self.dialect.encode_response(collected.answer(), who)
        finally:
            collected.clear()


@dataclass(frozen=True, slots=True)
class CountTokens:
    """POST a conversation, get the length of its prompt as the model would see it."""

    dialect: CountDialect
    backends: Backends

    async def __call__(self, request: HttpRequest) -> Response:
        chat = await decode_body(self.dialect.decode_request, request.body)
        chat = on_behalf(chat, request)  # nobody is to time another's prompts
        tokens = await self.backends.find(chat.model, request.meant).count(chat)
        return Response(
            200, self.dialect.encode_response(int(tokens)), (*JSON, *counted_by(tokens))
        )


def on_behalf(asked: Asked, request: HttpRequest) -> Asked:
    """Return what is asked with whose it is, with the key that another server is to see, and with
    what its route gives it."""
    if request.meant is not None:
        asked = with_asked(asked, request.meant.asked)
    if isinstance(asked, Completion):
        return replace(asked, client=request.caller)
    return replace(asked, client=request.caller, key=key_of(request.headers))


def answering(
    backend: Backend, asked: GenerateRequest, request: HttpRequest
) -> AsyncGenerator[Event, None]:
    """Return the events of an answer, whose tokens are counted where somebody wants to know."""
    events = backend.events(on_behalf(asked, request))
    meant = request.meant
    return counted(events, meant.spent) if meant and meant.spent else events


def counted_by(tokens: int) -> Headers:
    """Return the header of a number of tokens that is none but an estimate."""
    return ((b"x-bessemer-count", b"estimate"),) if isinstance(tokens, Estimate) else ()


def identity(prefix: str, backend: Backend) -> Identity:
    """Return who answers, under a new id."""
    fingerprint = backend.about.fingerprint if backend.about else ""
    return Identity(prefix + secrets.token_hex(12), int(time.time()), backend.name, fingerprint)


async def decode_body(decode: Callable[[bytes], Decoded], body: Body) -> Decoded:
    """Decode a body, on the event loop only where nobody would notice."""
    return decode(body.take()) if len(body) < QUICK else await body.decode_apart(decode)


def notes(first: Event) -> Headers:
    """Return the header of an answer whose prompt was shortened, where that is known by then."""
    if not isinstance(first, AnswerStarted) or (shortened := first.usage.shortened) is None:
        return ()
    return ((b"x-context-overflow", shortened.policy.encode()),)


async def _collect(
    first: Event, events: AsyncGenerator[Event, None], request: GenerateRequest
) -> Collector:
    prompts = len(request.prompts) if isinstance(request, Completion) else 1
    options = request.options
    collector = Collector(prompts * options.n, options.n, options.best)
    try:
        collector.add(first)
        while not collector.over:
            collector.add(await anext(events))
    finally:
        if not collector.over:  # its client is gone, or its model refuses to go on
            asyncio.get_running_loop().run_in_executor(None, collector.clear)
    return collector


@dataclass(frozen=True, slots=True)
class _Body:
    """The body of a streamed answer: events in a dialect's words, framed."""

    encoder: StreamEncoder
    framer: Framer

    async def chunks(
        self, first: Event, events: AsyncGenerator[Event, None]
    ) -> AsyncGenerator[bytes, None]:
        """Yield the answer piece by piece. Raises what goes wrong, which `failure` can tell."""
        async with aclosing(events):
            if data := self._framed(first):
                yield data
            async for event in events:
                if data := self._framed(event):
                    yield data
        if data := self.framer.end():
            yield data

    def failure(self, refusal: Refusal) -> bytes:
        return self._framed(Failure(refusal)) + self.framer.end()

    def _framed(self, event: Event) -> bytes:
        return b"".join(map(self.framer.frame, tuple(self.encoder.encode(event))))
