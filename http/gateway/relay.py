"""Requests that a provider of the client's own dialect answers: they go on as they are, but for the
model's name and the keys, and so do the answers, byte for byte."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field

import msgspec

from ...engine.request import Refusal
from ...translate.decode import weigh
from ...translate.dialect import ServerEvent
from ...translate.errors import anthropic_error, ollama_error, openai_error
from ...translate.upstream.upstream import Format
from ..framing import JsonLines, ServerSentEvents
from ..message import HttpRequest, Reply, Response, StreamingResponse
from .client import Exchange
from .headers import passed_down, passed_up
from .model_name import renamed
from .remote import Remote

LARGEST = 2**26  # bytes of an answer that is not streamed
HELD = 65536  # bytes of an event that are kept back until it is whole
QUICK = 32768  # bytes of a body; the most hostile one of that size takes 5 ms to rename
LINE, BLANK_LINE = (b"\n",), (b"\n\n", b"\r\n\r\n", b"\r\r")
# What ends an event, by the media type of what is streamed.
STREAMED: Mapping[bytes, tuple[bytes, ...]] = {
    b"text/event-stream": BLANK_LINE,
    b"application/x-ndjson": LINE,
    b"application/jsonl": LINE,
}
OPENAI = frozenset({"/v1/completions", "/v1/embeddings", "/v1/rerank", "/v2/rerank", "/v1/score"})
# The paths that each format's own servers have.
RELAYED: Mapping[Format, frozenset[str]] = {
    "openai": OPENAI | {"/v1/chat/completions"},
    "responses": OPENAI | {"/v1/responses", "/v1/responses/input_tokens"},
    "anthropic": frozenset({"/v1/messages", "/v1/messages/count_tokens"}),
    "ollama": frozenset(
        {"/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show"}
    )
    | {"/v1/completions", "/v1/embeddings"},
}


async def relayed(remote: Remote, model: str, request: HttpRequest, path: str) -> Reply:
    """Return a provider's own answer to a client's own request. Raises Refusal."""
    provider = remote.provider
    body = request.body.copy()
    weigh(body)
    body = (
        renamed(body, model) if len(body) < QUICK else await asyncio.to_thread(renamed, body, model)
    )
    headers = passed_up(request.headers, remote.upstream, provider)
    query = f"?{request.query}" if request.query else ""
    exchange = await remote.client.ask("POST", remote.target(path) + query, headers, body)
    request.body.drop()
    status, headers = exchange.status, passed_down(exchange.headers)
    kind = (exchange.header(b"content-type") or b"").partition(b";")[0].strip().lower()
    if status < 300 and kind in STREAMED:
        stream = _Stream(exchange, STREAMED[kind], remote.keyless_bytes)
        return StreamingResponse(stream.chunks(), status, headers, FAILURES.get(path, _openai))
    with closing(exchange):
        answer = await exchange.read(LARGEST)
    return Response(status, remote.keyless_bytes(answer), headers)


@dataclass(frozen=True, slots=True)
class _Stream:
    """A provider's stream, passed on in whole events, so that what ends it early can be told."""

    exchange: Exchange
    ends: tuple[bytes, ...]
    keyless: Callable[[bytes], bytes]
    held: bytearray = field(default_factory=bytearray)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        with closing(self.exchange):
            while piece := await self.exchange.piece():
                if whole := self._whole(piece):
                    yield self.keyless(whole)
            if self.held:
                yield self.keyless(bytes(self.held))

    def _whole(self, piece: bytes) -> bytes:
        """Return what is whole by now; keep the rest back, unless it is large."""
        if not self.held and piece.endswith(self.ends):
            return piece
        self.held.extend(piece)
        at = max(_behind(self.held, end) for end in self.ends)
        if len(self.held) - at > HELD:
            at = len(self.held)
        whole = bytes(self.held[:at])
        del self.held[:at]
        return whole


def _behind(data: bytearray, end: bytes) -> int:
    """Return what is behind the last end; 0 where there is none."""
    at = data.rfind(end)
    return at + len(end) if at >= 0 else 0


class _ResponsesError(msgspec.Struct, tag="error"):
    code: str
    message: str
    param: str | None
    sequence_number: int


def _openai(refusal: Refusal) -> bytes:
    return ServerSentEvents().frame(ServerEvent(openai_error(refusal)))


def _anthropic(refusal: Refusal) -> bytes:
    return ServerSentEvents().frame(ServerEvent(anthropic_error(refusal), "error"))


def _responses(refusal: Refusal) -> bytes:
    error = _ResponsesError(refusal.code, refusal.message, refusal.field, 0)
    return ServerSentEvents().frame(ServerEvent(msgspec.json.encode(error), "error"))


def _ollama(refusal: Refusal) -> bytes:
    return JsonLines().frame(ServerEvent(ollama_error(refusal)))


# How a stream says that it broke off.
FAILURES: Mapping[str, Callable[[Refusal], bytes]] = {
    "/v1/messages": _anthropic,
    "/v1/responses": _responses,
    "/api/chat": _ollama,
    "/api/generate": _ollama,
}
