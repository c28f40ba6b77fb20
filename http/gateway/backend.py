"""A provider's model as a backend: asked in the provider's dialect, its answer told in events."""

import asyncio
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
)
from contextlib import aclosing, closing
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

import msgspec

from ...engine.embedding.sentence_transformers import Purpose
from ...engine.request import Refusal, Thought
from ...translate.chat import (
    AnswerStarted,
    Chat,
    Done,
    Event,
    Finish,
    GenerateRequest,
    Heartbeat,
    Usage,
)
from ...translate.openai_embeddings import Embedding, Vectors
from ...translate.rerank import Ranking, Scores
from ...translate.shown_thoughts import TAGS, Way, shown_thoughts
from ...translate.tokens import Detokenize, Tokenize, Tokens
from ..about import About
from ..activity import Activity
from ..backends import Estimate, Status, Traits
from ..local import Patience
from ..message import HttpRequest, Reply
from .client import Exchange
from .connection import broken_off, no_answer
from .relay import RELAYED, relayed
from .remote import ERROR, Remote
from .unframing import UNFRAMERS

LARGEST = 2**26  # bytes of an answer that is not streamed
NONE = Usage(0, 0)
TRAITS = Traits(("completion", "tools", "thinking"))
MARKS = Thought(*TAGS)
COUNTING = "/v1/messages/count_tokens"
# What Anthropic counts of a request; it refuses what else there is.
COUNTED = {"model", "messages", "system", "tools", "tool_choice", "thinking"}
COUNTED |= {"output_config", "cache_control"}
LETTERS = 4  # of a token, about

Result = TypeVar("Result")
Count = Callable[[Chat], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class RemoteBackend:
    """A provider's `model`, by the name that clients have for it.

    With `lossy`, what the provider's dialect cannot say is left out of requests. `estimate` counts
    the tokens of a conversation where the provider does not.
    """

    purpose: ClassVar[Purpose] = "generate"

    name: str
    model: str
    remote: Remote
    patience: Patience
    lossy: bool = False
    estimate: Count | None = None
    created: int = field(default_factory=lambda: int(time.time()))
    activity: Activity = field(default_factory=Activity)

    @property
    def about(self) -> About | None:
        return None

    @property
    def traits(self) -> Traits:
        return TRAITS

    @property
    def relays(self) -> Collection[str]:
        paths = RELAYED[self.remote.provider.format]
        return paths - {COUNTING} if self.remote.provider.stub_count_tokens else paths

    def relay(self, request: HttpRequest, path: str) -> Awaitable[Reply]:
        return relayed(self.remote, self.model, request, path)

    async def events(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        if not isinstance(request, Chat):
            raise self._unable("/v1/completions", "bare prompts")
        if not request.messages:  # the model is only to be there
            yield AnswerStarted(NONE)
            yield Finish(0, "load")
            yield Done(NONE)
            return
        upstream, stream = self.remote.upstream, request.options.stream
        body = upstream.encode_request(replace(request, model=self.model), self.lossy)
        exchange: Exchange | None = None
        sending = self.remote.ask(upstream.path, body, request.key, stream)
        async with aclosing(patiently(sending, self.patience.heartbeat)) as waiting:
            async for each in waiting:
                if isinstance(each, Heartbeat):
                    yield each
                else:
                    exchange = each
        assert exchange is not None
        ways: dict[int, Way | None] = {}
        with closing(exchange):
            async with aclosing(self._answer(exchange, stream)) as events:
                async for event in events:
                    if getattr(event, "choice", 0) >= request.options.n:
                        continue  # an answer that nobody asked for
                    if isinstance(event, Done):
                        self.activity.done(event.usage)
                    if request.reasoning.shown == "apart":
                        yield event
                        continue
                    for shown in self._shown(event, request, ways):
                        yield shown

    def _shown(self, event: Event, request: Chat, ways: dict[int, Way | None]) -> "Iterator[Event]":
        """Yield what an event is to a client that wants thoughts elsewhere than apart."""
        choice = getattr(event, "choice", None)
        if choice is None:
            return iter((event,))
        if choice not in ways:
            ways[choice] = shown_thoughts(request.reasoning.shown, MARKS)
        way = ways[choice]
        return iter((event,)) if way is None else iter(way(event))

    async def _answer(self, exchange: Exchange, stream: bool) -> AsyncGenerator[Event, None]:
        """Yield the events of an answer, whole or streamed, as its provider chose to send it."""
        kind = (exchange.header(b"content-type") or b"").partition(b";")[0].strip().lower()
        if stream and kind != b"application/json":
            if kind == b"text/html":
                raise no_answer(self.remote.provider.name, "it is a page of HTML")
            async with aclosing(self._streamed(exchange)) as events:
                async for event in events:
                    yield event
            return
        body = await exchange.read(LARGEST)
        for event in self._events(self.remote.upstream.decode_response, body):
            yield event

    async def _streamed(self, exchange: Exchange) -> AsyncGenerator[Event, None]:
        upstream, beat = self.remote.upstream, self.patience.heartbeat
        decoder, unframer = upstream.stream(), UNFRAMERS[upstream.framing]()
        ended = False
        while not (decoder.over or ended):
            piece = await exchange.piece(beat)
            if piece is None:
                yield Heartbeat()
                continue
            ended = not piece
            read = self._decoded(unframer.feed, piece) if piece else unframer.end()
            for sent in read:
                for event in self._events(decoder.decode, sent):
                    if isinstance(event, Done):
                        exchange.finish()
                    yield event
                if decoder.over:
                    break
        if not decoder.over:
            raise broken_off(self.remote.provider.name, "its stream ended before it was over")

    def _events(self, decode: Callable[[Any], Iterable[Event]], data: Any) -> tuple[Event, ...]:
        return self._decoded(lambda sent: tuple(decode(sent)), data)

    def _decoded(self, decode: Callable[[Any], Result], data: Any) -> Result:
        """Return what something means. Raises a Refusal that names the provider for no meaning."""
        try:
            return decode(data)
        except ValueError as error:
            name = self.remote.provider.name
            raise no_answer(name, self.remote.keyless(str(error))) from None
        except Refusal as refusal:
            refusal.message = self.remote.keyless(refusal.message)
            raise

    async def count(self, chat: Chat) -> int:
        """Return the tokens as the provider counts them, or else an estimate."""
        provider = self.remote.provider
        if provider.stub_count_tokens:
            return Estimate(0)
        if provider.format == "anthropic":
            return await self._counted(chat)
        if self.estimate is not None:
            return Estimate(await self.estimate(chat))
        return Estimate(_length(chat) // LETTERS + len(chat.messages))

    async def _counted(self, chat: Chat) -> int:
        encoded = self.remote.upstream.encode_request(replace(chat, model=self.model), self.lossy)
        fields = msgspec.json.decode(encoded, type=dict[str, msgspec.Raw])
        body = msgspec.json.encode({name: fields[name] for name in COUNTED & fields.keys()})
        exchange = await self.remote.ask(COUNTING, body, chat.key)
        with closing(exchange):
            counted = await exchange.read(ERROR)
        return int(self._decoded(_COUNT.decode, counted).input_tokens)

    async def render(self, chat: Chat) -> str:
        raise self._unable("/apply-template", "templates")

    async def tokenize(self, request: Tokenize) -> Tokens:
        raise self._unable("/tokenize", "tokens")

    async def detokenize(self, request: Detokenize) -> str:
        raise self._unable("/detokenize", "tokens")

    async def embed(self, request: Embedding) -> Vectors:
        raise self._unable("/v1/embeddings", "texts to embed")

    async def rerank(self, request: Ranking) -> Scores:
        raise self._unable("/v1/rerank", "documents to rank")

    def _unable(self, path: str, what: str) -> Refusal:
        """Return the refusal of what cannot be said in the provider's dialect."""
        provider = self.remote.provider
        text = f"The provider {provider.name!r} is asked in the dialect {provider.format}, which "
        text += f"has no {what} (asked for at {path})."
        return Refusal(400, "unsupported_model", text, "model")

    def status(self) -> Status:
        return Status("ready")

    def interrupt(self, refusal: Refusal) -> None:
        self.remote.interrupt(refusal)


class _Count(msgspec.Struct):
    input_tokens: int


_COUNT = msgspec.json.Decoder(_Count)


def _length(chat: Chat) -> int:
    """Return the characters of a conversation with its tools."""
    turns = sum(
        len(turn.text) + len(turn.reasoning or "") + sum(len(call.arguments) for call in turn.calls)
        for turn in chat.messages
    )
    tools = ((tool.name, tool.description, tool.parameters) for tool in chat.tools)
    return turns + sum(len(msgspec.json.encode(tool)) for tool in tools)


async def patiently(
    work: Coroutine[Any, Any, Result], beat: float
) -> AsyncGenerator[Heartbeat | Result, None]:
    """Yield what comes of some work, and a Heartbeat for every so many seconds until then."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait((task,), timeout=beat))[0]:
            yield Heartbeat()
        yield task.result()
    finally:
        task.cancel()
