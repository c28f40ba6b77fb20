"""Local models as backends, served by worker processes of our own."""

import asyncio
import secrets
import sys
import time
from array import array
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, TypeVar

from msgspec import structs

from ..engine import request as engine
from ..engine.embedding.sentence_transformers import Purpose
from ..engine.request import Refusal
from ..engine.wire import Ready
from ..translate.answer import AnswerStream, Bounds
from ..translate.attribution import without_attribution
from ..translate.chat import (
    AnswerStarted,
    Chat,
    Completion,
    Done,
    Event,
    Finish,
    GenerateRequest,
    Heartbeat,
    Overflow,
    Progress,
    Usage,
)
from ..translate.embedding_inputs import check, portions, read_inputs
from ..translate.media import refuse_media
from ..translate.openai_embeddings import Embedding, Vectors, unit
from ..translate.renderer import Prompt, Renderer
from ..translate.rerank import Ranking, Scores
from ..translate.tokens import Detokenize, Tokenize, Tokens
from .about import About
from .activity import Activity
from .auth import KEYED
from .backends import Capability, ModelState, Status, Traits, other_purpose
from .fleet import State, Worker
from .limits import within
from .message import HttpRequest, Reply
from .overflow import ContextOverflow, Fitted
from .stopwatch import Stopwatch
from .template_host import TemplateHost

RESTART_PATIENCE = 5.0  # seconds a request waits for a dead worker's successor; it takes about 1
SHORT = 2000  # characters, which are tokenized within a millisecond
MANY = 200  # messages, however short, which take as long
LONG = 100_000  # characters, which take up to seconds; a model reads so many of such at a time:
READERS = 2
RESOLUTION = 0.001  # seconds: timers count in whole milliseconds, and floats' sums are not exact
NUMBER = 4  # bytes of one in a vector
NONE = Usage(0, 0)
UNKNOWN = 2**17  # tokens of context, where prompts are counted while no worker is there

Returned = TypeVar("Returned")


@dataclass(frozen=True, slots=True)
class Patience:
    """The seconds of silence until a heartbeat is sent, and until a request is given up.

    A model that computes is not silent, whoever it is for; so a request waits for its turn. A
    stream that nothing is known of after `opening` seconds begins with a heartbeat. The clock is
    looked at each `tick`, which is the most that a heartbeat comes late.
    """

    heartbeat: float = 5.0
    timeout: float = 300.0
    opening: float = 0.025

    @property
    def tick(self) -> float:
        return min(self.heartbeat, self.timeout) / 4

    def first(self, request: GenerateRequest, work: Sequence[engine.Request]) -> float:
        """Return the seconds until the first heartbeat, when a stream is to begin.

        A grammar is compiled before: one that cannot be still has a status of its own.
        """
        begins = request.options.stream and work[0].constraint is None
        return min(self.opening, self.heartbeat) if begins else self.heartbeat


class _Clock:
    """A clock that says when a silent stream needs a heartbeat, and when it is given up."""

    def __init__(self, patience: Patience, first: float | None = None) -> None:
        self._now = asyncio.get_running_loop().time
        self._patience = patience
        self.heard()
        self._beat = self._heard + (patience.heartbeat if first is None else first)

    def heard(self) -> None:
        """Note that the worker has said something, whether or not the client hears of it."""
        self._heard = self._now()

    def told(self) -> None:
        """Note that the client has been told something."""
        self._beat = self._now() + self._patience.heartbeat

    def tick(self, progress: float) -> bool:
        """Return whether a heartbeat is due; `progress` is when the model last computed anything.

        Raises Refusal when the time is up.
        """
        now, seconds = self._now(), self._patience.timeout
        if now > max(self._heard, progress) + seconds:
            raise Refusal(504, "timeout", f"The model computed nothing for {seconds:g} seconds.")
        if now < self._beat - RESOLUTION:
            return False
        self.told()
        return True


@dataclass(frozen=True, slots=True)
class LocalBackend:
    """The part that all local models have in common; each kind does what its `purpose` says."""

    purpose: ClassVar[Purpose]
    name: str
    created: int
    worker: Worker
    about: About | None = field(default=None, kw_only=True)
    activity: Activity = field(default_factory=Activity, kw_only=True)

    @property
    def relays(self) -> Collection[str]:
        return ()

    @property
    def traits(self) -> Traits:
        return Traits()

    def refusal(self) -> Refusal:
        """Return the refusal of what this kind does not do."""
        return other_purpose(self.name, self.purpose)

    async def relay(self, request: HttpRequest, path: str) -> Reply:
        raise self.refusal()

    def events(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        raise self.refusal()

    async def count(self, chat: Chat) -> int:
        raise self.refusal()

    async def render(self, chat: Chat) -> str:
        raise self.refusal()

    async def tokenize(self, request: Tokenize) -> Tokens:
        raise self.refusal()

    async def detokenize(self, request: Detokenize) -> str:
        raise self.refusal()

    async def embed(self, request: Embedding) -> Vectors:
        raise self.refusal()

    async def rerank(self, request: Ranking) -> Scores:
        raise self.refusal()

    def status(self) -> Status:
        worker, ready = self.worker, self.worker.ready
        if ready is None:
            wait, why = worker.retry_after, worker.why_down
            if why:
                return Status("down", retry_after=wait, why=why)
            loads = worker.state is State.LOADING
            down: ModelState = "loading" if loads and not worker.seconds else "restarting"
            return Status(down, stage=worker.stage, retry_after=wait)
        plan = ready.plan
        state: ModelState = "not responding" if worker.hangs else "ready"
        about = state, plan.context, ready.model_type, plan, worker.seconds, worker.report
        return Status(*about, slots=worker.slots, defaults=ready.defaults)

    @contextmanager
    def admitted(self, client: str, texts: int) -> Iterator[None]:
        """Count the texts of a request to embed or to rank in, for as long as it is not over."""
        admission = self.worker.admission
        with admission.admitted(client, admission.sequences(texts)):
            yield

    def interrupt(self, refusal: Refusal) -> None:
        self.worker.refuse_all(refusal)


@dataclass(frozen=True, slots=True)
class LoadingBackend(LocalBackend):
    """A model that is not ready for the first time yet, whatever it will be for."""

    purpose: ClassVar[Purpose] = "generate"

    def refusal(self) -> Refusal:
        return self.worker.unavailable()

    def status(self) -> Status:
        worker = self.worker
        stage = worker.stage or "reading the tokenizer"
        return Status("loading", stage=stage, retry_after=worker.retry_after)


@dataclass(frozen=True, slots=True)
class GenerationBackend(LocalBackend):
    """A model that writes answers, of `max_tokens` tokens at most."""

    purpose: ClassVar[Purpose] = "generate"

    template: TemplateHost
    renderer: Renderer
    max_tokens: int
    patience: Patience
    share_prefixes: bool = False  # among callers with different keys
    overflow: Overflow = "error"  # what is done with too long a prompt
    keep_attribution: bool = False  # Claude Code's line, which changes with every request
    readers: Executor = field(default_factory=lambda: ThreadPoolExecutor(READERS))  # of long texts
    searcher: Executor = field(
        default_factory=lambda: ThreadPoolExecutor(1)
    )  # as no two run at once

    @property
    def traits(self) -> Traits:
        renderer, special = self.renderer, self.renderer.tokenizer.special_tokens
        able: dict[Capability, bool] = {
            "completion": True,
            "tools": renderer.shows_tools,
            "thinking": renderer.thinks,
            "insert": renderer.infill is not None,
            "embedding": True,
        }
        can: tuple[Capability, ...] = tuple(name for name, does in able.items() if does)
        names = (special.get(f"{which}_token", "") for which in ("bos", "eos"))
        return Traits(can, renderer.source, *names)

    async def count(self, chat: Chat) -> int:
        return len(await self._tokens(chat))

    async def render(self, chat: Chat) -> str:
        chat, text = await within(self.patience.timeout, self._rendered(chat, self._context))
        return text.replace(chat.guard, "") if chat.guard else text

    async def tokenize(self, request: Tokenize) -> Tokens:
        if request.chat is not None:
            ids = await self._tokens(request.chat)
        else:
            how = request.text, request.add_special, request.parse_special, self._context
            ids = await self._apart(self.readers, len(request.text), self.renderer.tokens, *how)
        tokenizer = self.renderer.tokenizer
        pieces = [*map(tokenizer.token_bytes, ids)] if request.pieces else ()
        names = [*map(tokenizer.name, ids)] if request.names else ()
        return Tokens(ids, pieces, names)

    async def detokenize(self, request: Detokenize) -> str:
        ids = request.ids
        return await self._apart(self.readers, len(ids), self.renderer.text_of, ids)

    async def embed(self, request: Embedding) -> Vectors:
        """Return the means of the texts' hidden states; texts take turns with answers."""
        began = time.monotonic_ns()
        ready = await self.worker.available(RESTART_PATIENCE)
        check(request, ready.width)
        if not request.inputs:  # the model is only to be there
            return Vectors((), 0)
        together = min(len(request.inputs), max(self.worker.slots // 2, 1))
        with self.worker.admission.admitted(request.client, together):
            texts = await within(self.patience.timeout, self._texts(request, ready))
            rows = await self._embedded(request, texts, together)
        tokens = sum(map(len, texts))
        self.activity.done(Usage(tokens, 0))
        return Vectors(rows, tokens, time.monotonic_ns() - began)

    async def _texts(self, request: Embedding, ready: Ready) -> "list[array[int]]":
        """Return the tokens of all texts, so that nothing is computed where one is refused."""
        about = request.truncate, ready.plan.context, ready.vocabulary
        texts: list[array[int]] = []
        for first, given in portions(request):
            size = sum(map(len, given)) + (SHORT if first else 0)  # only the first beside the loop
            how = self.renderer, given, first, *about
            texts += await self._apart(self.readers, size, read_inputs, *how)
        return texts

    async def _embedded(
        self, request: Embedding, texts: "Sequence[array[int]]", together: int
    ) -> list[bytes]:
        """Have texts computed, so many at once, the shortest first; return their vectors."""
        rows, cut = [b""] * len(texts), request.dimensions
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for at in range(0, len(order), together):
            numbers = {self.worker.number(): row for row in order[at : at + together]}
            about: dict[str, Any] = {"max_tokens": 0, "client": request.client, "embeds": True}
            work = [engine.Request(id=n, tokens=texts[row], **about) for n, row in numbers.items()]
            async with aclosing(results(self.worker, work, self.patience)) as events:
                async for event in events:
                    if isinstance(event, engine.Embedded):
                        rows[numbers[event.request]] = event.vectors
        return rows if cut is None else [unit(row[: NUMBER * cut]) for row in rows]

    @property
    def _context(self) -> int:
        ready = self.worker.ready
        return UNKNOWN if ready is None else ready.plan.context

    async def _tokens(self, chat: Chat) -> list[int]:
        """Return the tokens of a conversation, even of one that is too long for the model."""
        ready = self.worker.ready
        vocabulary = sys.maxsize if ready is None else ready.vocabulary
        reading = self._prompts(chat, self._context, vocabulary)
        (prompt,) = await within(self.patience.timeout, reading)
        return prompt.tokens

    async def events(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        times = Stopwatch()
        ready = await self.worker.available(RESTART_PATIENCE)
        times.loaded()
        if isinstance(request, Chat) and not request.messages:  # the model is only to be there
            yield AnswerStarted(NONE)
            yield Finish(0, "load")
            yield Done(NONE)
            return
        prompts = 1 if isinstance(request, Chat) else len(request.prompts)
        count = prompts * request.options.n
        fitted: Fitted | None = None
        with self.worker.admission.admitted(request.client, count) as place:
            async with aclosing(self._fitted(self._salted(request), ready)) as fitting:
                async for each in fitting:
                    if isinstance(each, Heartbeat):
                        yield each
                    else:
                        fitted = each
            assert fitted is not None
            answer = self._answer(fitted.request, fitted.prompts, place.leave, times)
            async with aclosing(answer) as events:
                async for event in events:
                    yield event

    def _fitted(
        self, request: GenerateRequest, ready: Ready
    ) -> AsyncGenerator[Fitted | Heartbeat, None]:
        """Read a request's prompts, and do what is to be done if they are too long."""
        context = ready.plan.context

        async def read(request: GenerateRequest) -> list[Prompt]:
            reading = self._prompts(request, context, ready.vocabulary)
            return await within(self.patience.timeout, reading)

        about = self.overflow, context, self.max_tokens
        return ContextOverflow(*about, read, partial(self._answer, leave=_stay)).fitted(request)

    async def _answer(
        self,
        request: GenerateRequest,
        prompts: list[Prompt],
        leave: Callable[[int], None],
        times: Stopwatch | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of an answer; `leave` is told of sequences that are over."""
        worker, patience, times = self.worker, self.patience, times or Stopwatch()
        ready = await worker.available(RESTART_PATIENCE)  # it may have died meanwhile
        bounds = Bounds(ready.plan.context, self.max_tokens, ready.defaults, ready.vocabulary)
        seed = secrets.randbits(63) if request.options.seed is None else request.options.seed
        tokenizer = self.renderer.tokenizer
        about = worker.number, seed, time.monotonic
        answer = AnswerStream(request, prompts, tokenizer, bounds, *about)
        first = patience.first(request, answer.requests)
        clock = _Clock(patience, first)
        kept = not request.options.stream
        stream = worker.open(answer.requests, patience.tick, min(first, patience.tick), kept)
        try:
            with self.activity.under_way(answer, times):
                while not answer.over:
                    event = await stream.next()
                    if event is not None:
                        clock.heard()
                        times.take(event)
                        if event.over:
                            leave(1)
                        for each in answer.take(event):  # none of a hidden thought's tokens
                            yield each
                            if not isinstance(each, Progress):  # which goes out with what follows
                                clock.told()
                    elif clock.tick(worker.progress):
                        yield Heartbeat()
            yield structs.replace(answer.done, durations=times.durations())
        finally:
            stream.close()

    def _salted(self, request: GenerateRequest) -> GenerateRequest:
        """Keep a key's prefixes apart: `cached_tokens` would tell others what was asked with it."""
        if self.share_prefixes or not request.client.startswith(KEYED):
            return request
        salt = f"{request.client} {request.options.cache_salt}"
        return replace(request, options=replace(request.options, cache_salt=salt))

    async def _prompts(
        self, request: GenerateRequest, context: int, vocabulary: int
    ) -> list[Prompt]:
        renderer, bounds = self.renderer, (context, vocabulary)
        if not isinstance(request, Chat):
            size, read = _size(request), renderer.prompts
            return await self._apart(self.readers, size, read, request, *bounds)
        chat, text = await self._rendered(request, context)
        about = renderer.conversation, chat, text, *bounds
        return [await self._apart(self.readers, len(text), *about)]

    async def _rendered(self, chat: Chat, context: int) -> tuple[Chat, str]:
        """Return a conversation as it is guarded, and its text by the template."""
        refuse_media(chat)
        chat = chat if self.keep_attribution else without_attribution(chat)
        guarded = await self._apart(
            self.searcher, _length(chat), self.renderer.guarded, chat, context
        )
        return guarded, await self.template.render(guarded, self.renderer.limit(context))

    async def _apart(
        self, executor: Executor, length: int, function: Callable[..., Returned], *arguments: Any
    ) -> Returned:
        """Call what takes time with a text's length: long ones in turn, so that others go on."""
        if length < SHORT:
            return function(*arguments)
        if length < LONG:
            return await asyncio.to_thread(function, *arguments)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(executor, function, *arguments)


def _stay(count: int) -> None:
    """Leave the place of a sequence to the one that follows it."""


def _length(chat: Chat) -> int:
    if len(chat.messages) > MANY:
        return LONG
    length = sum(
        len(turn.text) + len(turn.reasoning or "") + sum(len(call.arguments) for call in turn.calls)
        for turn in chat.messages
    )
    return max(length, SHORT) if chat.tools or chat.template else length


def _size(request: Completion) -> int:
    return max(sum(map(len, request.prompts)), SHORT)  # beside the loop, however short


async def results(
    worker: Worker, work: Sequence[engine.AnyRequest], patience: Patience
) -> AsyncGenerator[engine.Event, None]:
    """Yield all events of some requests. Raises Refusal if the worker refuses one."""
    await worker.available(RESTART_PATIENCE)
    stream, clock = worker.open(work, patience.tick), _Clock(patience)
    try:
        left = len(work)
        while left:
            event = await stream.next()
            if isinstance(event, engine.Refused):
                raise event.refusal()
            if event is None:
                clock.tick(worker.progress)
            else:
                clock.heard()
                left -= event.over
                yield event
    finally:
        stream.close()
