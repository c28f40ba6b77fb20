"""Local models as backends, served by worker processes of our own."""

import asyncio
import secrets
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from ..engine import request as engine
from ..engine.embedding.sentence_transformers import Purpose
from ..engine.request import Refusal
from ..translate.answer import AnswerStream, Bounds
from ..translate.chat import Chat, Done, Event, GenerateRequest, Heartbeat
from ..translate.openai_embeddings import Embedding, Vectors
from ..translate.renderer import Prompt, Renderer
from ..translate.rerank import Ranking, Scores
from .backends import Status, other_purpose
from .fleet import Worker
from .template_host import TemplateHost

RESTART_PATIENCE = 5.0  # seconds a request waits for a dead worker's successor; it takes about 1
SHORT = 2000  # characters, which are tokenized within a millisecond
UNKNOWN = 2**17  # tokens of context, where prompts are counted while no worker is there
TICK = 60.0  # seconds; nobody looks at the clock while inputs are embedded, limits.within does


Returned = TypeVar("Returned")


@dataclass(frozen=True, slots=True)
class Patience:
    """The seconds without a token until a heartbeat is sent, and until the answer is given up."""

    heartbeat: float = 5.0
    timeout: float = 300.0


class _Clock:
    """A clock that says when a silent stream needs a heartbeat, and when it is given up."""

    def __init__(self, patience: Patience) -> None:
        self._now = asyncio.get_running_loop().time
        self._patience = patience
        self.token()

    def token(self) -> None:
        now = self._now()
        self._beat = now + self._patience.heartbeat
        self._limit = now + self._patience.timeout

    def tick(self) -> bool:
        """Return whether a heartbeat is due. Raises Refusal when the time is up."""
        now = self._now()
        if now > self._limit:
            seconds = self._patience.timeout
            raise Refusal(504, "timeout", f"The model gave no answer within {seconds:g} seconds.")
        if now < self._beat:
            return False
        self._beat = now + self._patience.heartbeat
        return True


@dataclass(frozen=True, slots=True)
class LocalBackend:
    """The part that all local models have in common; each kind does what its `purpose` says."""

    purpose: ClassVar[Purpose]
    name: str
    created: int
    worker: Worker

    def events(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        raise other_purpose(self)

    async def count(self, chat: Chat) -> int:
        raise other_purpose(self)

    async def embed(self, request: Embedding) -> Vectors:
        raise other_purpose(self)

    async def rerank(self, request: Ranking) -> Scores:
        raise other_purpose(self)

    def status(self) -> Status:
        ready = self.worker.ready
        if ready is None:
            return Status(False)
        plan, worker = ready.plan, self.worker
        return Status(True, plan.context, ready.model_type, plan, worker.seconds, worker.report)

    def interrupt(self, refusal: Refusal) -> None:
        self.worker.refuse_all(refusal)


@dataclass(frozen=True, slots=True)
class GenerationBackend(LocalBackend):
    """A model that writes answers, of `max_tokens` tokens at most."""

    purpose: ClassVar[Purpose] = "generate"

    template: TemplateHost
    renderer: Renderer
    max_tokens: int
    patience: Patience

    async def count(self, chat: Chat) -> int:
        ready = self.worker.ready
        context = UNKNOWN if ready is None else ready.plan.context
        vocabulary = sys.maxsize if ready is None else ready.vocabulary
        (prompt,) = await self._prompts(chat, context, vocabulary)
        return len(prompt.tokens)

    async def events(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        ready = await self.worker.available(RESTART_PATIENCE)
        context, patience = ready.plan.context, self.patience
        prompts = await self._prompts(request, context, ready.vocabulary)
        bounds = Bounds(context, self.max_tokens, ready.defaults, ready.vocabulary)
        seed = secrets.randbits(63) if request.options.seed is None else request.options.seed
        number, tokenizer = self.worker.number, self.renderer.tokenizer
        answer = AnswerStream(request, prompts, tokenizer, bounds, number, seed)
        clock = _Clock(patience)
        stream = self.worker.open(answer.requests, min(patience.heartbeat, patience.timeout / 4))
        try:
            while not answer.over:
                event = await stream.next()
                if event is not None:
                    clock.token()
                    for each in answer.take(event):
                        yield each
                elif clock.tick():
                    yield Heartbeat()
            yield Done(answer.usage)
        finally:
            stream.close()

    async def _prompts(
        self, request: GenerateRequest, context: int, vocabulary: int
    ) -> list[Prompt]:
        renderer, bounds = self.renderer, (context, vocabulary)
        if not isinstance(request, Chat):
            return await asyncio.to_thread(renderer.prompts, request, *bounds)
        chat = await _apart(_length(request), renderer.guarded, request)
        text = await self.template.render(chat, renderer.limit(context))
        return [await _apart(len(text), renderer.conversation, chat, text, *bounds)]


@dataclass(frozen=True, slots=True)
class EmbeddingBackend(LocalBackend):
    """A model that makes vectors of texts; its worker tokenizes."""

    purpose: ClassVar[Purpose] = "embed"

    async def embed(self, request: Embedding) -> Vectors:
        work = engine.Embed(
            id=self.worker.number(),
            inputs=[each if isinstance(each, str) else list(each) for each in request.inputs],
            dimensions=request.dimensions,
            prompt=request.prompt,
            truncate=request.truncate,
            client=request.client,
        )
        rows, tokens = [b""] * len(work.inputs), 0
        async with aclosing(_results(self.worker, work)) as events:
            async for event in events:
                assert isinstance(event, engine.Embedded)
                size = len(event.vectors) // len(event.rows)
                for at, row in enumerate(event.rows):
                    rows[row] = event.vectors[at * size : (at + 1) * size]
                tokens += event.tokens
        return Vectors(rows, tokens)


@dataclass(frozen=True, slots=True)
class RerankBackend(LocalBackend):
    """A model that scores pairs of texts; its worker tokenizes."""

    purpose: ClassVar[Purpose] = "rerank"

    async def rerank(self, request: Ranking) -> Scores:
        work = engine.Rank(
            id=self.worker.number(),
            query=request.query,
            documents=list(request.documents),
            prompt=request.prompt,
            truncate=request.truncate,
            client=request.client,
        )
        values, tokens = [0.0] * len(work.documents), 0
        async with aclosing(_results(self.worker, work)) as events:
            async for event in events:
                assert isinstance(event, engine.Ranked)
                for row, score in zip(event.rows, event.scores, strict=True):
                    values[row] = score
                tokens += event.tokens
        return Scores(values, tokens)


async def _apart(length: int, function: Callable[..., Returned], *arguments: Any) -> Returned:
    """Call what takes time with the length of a text, on the event loop if nobody would notice."""
    if length < SHORT:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)


def _length(chat: Chat) -> int:
    if chat.tools or chat.template:
        return SHORT
    return sum(len(turn.text) + len(turn.reasoning or "") for turn in chat.messages)


async def _results(
    worker: Worker, work: engine.Embed | engine.Rank
) -> AsyncGenerator[engine.Event, None]:
    """Yield all events of one request. Raises Refusal if the worker refuses it."""
    await worker.available(RESTART_PATIENCE)
    stream = worker.open([work], TICK)
    try:
        over = False
        while not over:
            event = await stream.next()
            if isinstance(event, engine.Refused):
                raise event.refusal()
            if event is not None:
                over = event.over
                yield event
    finally:
        stream.close()
