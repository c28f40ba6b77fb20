"""Vectors and scores for many at once: each batch takes a passage in turn from every request."""

import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from queue import SimpleQueue
from time import perf_counter

import numpy as np

from ..request import Embed, Embedded, Event, Rank, Ranked, Refusal, Refused, StepReport, overloaded
from ..sampler import broken_numbers
from .inputs import Passage, PassageError
from .model import Embedder, Reranker
from .pooling import Floats

READERS = 2  # threads that tokenize, so that one long text does not hold up the others


@dataclass(slots=True)
class State:
    """A request on its way: how many passages were begun, and how many are answered."""

    ask: Embed | Rank
    passages: Sequence[Passage] = ()
    begun: int = 0
    reading: Future[list[Passage]] | None = None

    @property
    def waits(self) -> bool:
        return self.begun < len(self.passages)

    @property
    def dimensions(self) -> int | None:
        return self.ask.dimensions if isinstance(self.ask, Embed) else None


@dataclass(slots=True)
class Share:
    """What a batch takes of one request."""

    state: State
    rows: list[int] = field(default_factory=list)

    @property
    def passages(self) -> list[Passage]:
        return [self.state.passages[row] for row in self.rows]


class PassageEngine:
    """An embedding or reranking model; every call is made from one thread, as Engine's are.

    Passages go through it up to `most` tokens at a time, or one that has more; `room` is how many
    requests there may be at a time. Texts are tokenized by threads of its own, which call `wake`
    when one is done: a step is due then.
    """

    def __init__(
        self, model: Embedder | Reranker, most: int, room: int, wake: Callable[[], None]
    ) -> None:
        self._model = model
        self._most = most
        self._room = room
        self._wake = wake
        self._states: dict[int, State] = {}
        self._turns: deque[State] = deque()  # of those that wait, the one to be served first
        self._read: SimpleQueue[State] = SimpleQueue()
        self._readers = ThreadPoolExecutor(READERS)
        self._cost = 0.0, 0.0, 0.0, 0  # seconds and rows of the last step, as in StepReport

    @property
    def busy(self) -> bool:
        return bool(self._turns) or not self._read.empty()

    def submit(self, ask: Embed | Rank) -> None:
        """Raises Refusal if there are too many, or the model does not do what is asked."""
        check(self._model, ask)
        if len(self._states) >= self._room:
            raise overloaded()
        state = self._states[ask.id] = State(ask)
        state.reading = self._readers.submit(self._passages, ask)
        state.reading.add_done_callback(lambda _: self._done(state))

    def cancel(self, request: int) -> None:
        """Forget a request before the next step; one that is over already is no mistake."""
        state = self._states.pop(request, None)
        if state is None:
            return
        if state.reading is not None:
            state.reading.cancel()
        if state.waits:
            self._turns.remove(state)

    def step(self) -> list[Event]:
        """Take what was read, and compute one batch; what came of it."""
        began, self._cost = perf_counter(), (0.0, 0.0, 0.0, 0)
        events: list[Event] = [
            refused for state in self._arrived() if (refused := self._begin(state))
        ]
        if self._turns:
            events += self._compute(self._batch(), began)
        return events

    def report(self) -> StepReport:
        """What the last step cost, and how things stand now."""
        waiting = len(self._states) - len(self._turns)
        return StepReport(*self._cost, len(self._turns), waiting)

    def close(self) -> None:
        self._readers.shutdown(cancel_futures=True)

    def _passages(self, ask: Embed | Rank) -> list[Passage]:
        """Called by a reader; what nobody waits for any more is left half read."""
        return list(takewhile(lambda _: ask.id in self._states, read(self._model, ask)))

    def _done(self, state: State) -> None:
        self._read.put(state)
        self._wake()

    def _arrived(self) -> Iterator[State]:
        """What was read since, unless it was cancelled."""
        while not self._read.empty():
            state = self._read.get()
            if self._states.get(state.ask.id) is state:
                yield state

    def _begin(self, state: State) -> Refused | None:
        assert state.reading is not None
        error = state.reading.exception()
        if error is not None:
            refusal = error if isinstance(error, Refusal) else _unreadable(error)
            return self._refused(state, refusal)
        state.passages, state.reading = state.reading.result(), None
        self._turns.append(state)
        return None

    def _batch(self) -> list[Share]:
        """A passage of each request in turn, and again, while there is room for one more."""
        first = self._turns[0]
        shares = [Share(s) for s in self._turns if s.dimensions == first.dimensions]
        room, taking = self._most, deque(shares)
        while taking:
            share = taking.popleft()
            state = share.state
            length = len(state.passages[state.begun].tokens)
            if length > room and (state is not first or share.rows):
                continue
            room -= length
            share.rows.append(state.begun)
            state.begun += 1
            if state.waits:
                taking.append(share)
        self._turns.rotate(-1)
        self._turns = deque(state for state in self._turns if state.waits)
        return [share for share in shares if share.rows]

    def _compute(self, shares: Sequence[Share], began: float) -> list[Event]:
        passages = [passage for share in shares for passage in share.passages]
        rows, built = sum(len(passage.tokens) for passage in passages), perf_counter()
        try:
            values = measure(self._model, passages, shares[0].state.dimensions)
        except (ValueError, RuntimeError):  # what mlx raises, of memory for one
            traceback.print_exc()
            return [self._refused(share.state, _failed()) for share in shares]
        computed = perf_counter()
        ends = np.cumsum([len(share.rows) for share in shares])
        parts = np.split(values, ends[:-1])
        events = [self._answered(*pair) for pair in zip(shares, parts, strict=True)]
        self._cost = built - began, computed - built, perf_counter() - computed, rows
        return events

    def _answered(self, share: Share, values: Floats) -> Event:
        if not np.isfinite(values).all():
            return self._refused(share.state, broken_numbers())
        over = not share.state.waits
        if over:
            self.cancel(share.state.ask.id)
        tokens = sum(len(passage.tokens) for passage in share.passages)
        return answer(share.state.ask, share.rows, values, tokens, over)

    def _refused(self, state: State, refusal: Refusal) -> Refused:
        self.cancel(state.ask.id)
        return Refused.of(state.ask.id, refusal)


def check(model: Embedder | Reranker, ask: Embed | Rank) -> None:
    """Raises Refusal for what needs no reading to be refused."""
    match model, ask:
        case (_, Embed(inputs=[]) | Rank(documents=[])):
            raise Refusal(400, "invalid_value", "There is nothing to be done: no text was given.")
        case (Embedder(dimension=most), Embed(dimensions=wanted)):
            if wanted is not None and not 1 <= wanted <= most:
                message = f"dimensions is {wanted}; this model's vectors have {most}."
                raise Refusal(400, "invalid_value", message, "dimensions")
        case (Reranker(), Rank()):
            pass
        case _:
            raise Refusal(400, "unsupported_model", "This model has another purpose.", "model")


def read(model: Embedder | Reranker, ask: Embed | Rank) -> Iterator[Passage]:
    """The passages, one after the other. Raises Refusal for one that cannot be taken."""
    match model, ask:
        case (Embedder() as embedder, Embed(inputs=inputs, prompt=prompt)):
            for row, each in enumerate(inputs):
                make = partial(embedder.passages, [each], prompt)
                yield _passage(make, ask.truncate, "input", row)
        case (Reranker() as reranker, Rank(query=query, documents=documents, prompt=prompt)):
            for row, each in enumerate(documents):
                make = partial(reranker.passages, query, [each], prompt=prompt)
                yield _passage(make, ask.truncate, "documents", row)


def _passage(
    make: Callable[[bool], list[Passage]], truncate: bool, field: str, row: int
) -> Passage:
    try:
        (passage,) = make(truncate)
    except PassageError as error:
        too_long = not truncate and _succeeds(make)
        code = "context_length_exceeded" if too_long else "invalid_value"
        remedy = '; shorten it, or send "truncate": true' if too_long else ""
        raise Refusal(400, code, f"{field}[{row}]: {error}{remedy}.", field) from None
    return passage


def _succeeds(make: Callable[[bool], list[Passage]]) -> bool:
    """Whether there is nothing wrong but the length."""
    try:
        make(True)
    except PassageError:
        return False
    return True


def measure(
    model: Embedder | Reranker, passages: Sequence[Passage], dimensions: int | None
) -> Floats:
    """(passages, numbers): vectors, or scores of one number each."""
    if isinstance(model, Embedder):
        return model.vectors(passages, dimensions)
    return np.array(model.scores(passages), np.float32)[:, None]


def answer(
    ask: Embed | Rank, rows: list[int], values: Floats, tokens: int, over: bool
) -> Embedded | Ranked:
    if isinstance(ask, Embed):
        return Embedded(ask.id, rows, values.astype("<f4").tobytes(), tokens, over)
    return Ranked(ask.id, rows, [float(value) for value in values[:, 0]], tokens, over)


def _unreadable(error: BaseException) -> Refusal:
    """For what the tokenizers package raises, which is bare Exceptions."""
    traceback.print_exception(error, file=sys.stderr)
    return Refusal(500, "tokenizer", "The model's tokenizer failed on this input.")


def _failed() -> Refusal:
    return Refusal(500, "internal_error", "The model could not be computed; see the server's log.")
