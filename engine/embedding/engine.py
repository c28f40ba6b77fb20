"""Vectors and scores for many at once: in each batch clients take turns, and their requests."""

import sys
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from queue import SimpleQueue
from time import perf_counter

import numpy as np

from ..admission import Admission
from ..request import Embed, Embedded, Event, Rank, Ranked, Refusal, Refused, StepReport
from ..sampler import broken_numbers
from .inputs import Input, InputError
from .model import Embedder, Reranker
from .pooling import Floats

SIGN = 0.2  # seconds of tokenizing after which the worker is woken to show that it gets on
READERS = 2  # threads that tokenize, so that one long text does not hold up the others


@dataclass(slots=True)
class RequestState:
    """A request on its way; `begun` of its inputs are computed or in the current batch."""

    request: Embed | Rank
    inputs: Sequence[Input] = ()
    begun: int = 0
    reading: Future[list[Input]] | None = None

    @property
    def waits(self) -> bool:
        return self.begun < len(self.inputs)

    @property
    def dimensions(self) -> int | None:
        return self.request.dimensions if isinstance(self.request, Embed) else None


@dataclass(slots=True)
class Share:
    """The inputs that a batch takes of one request."""

    state: RequestState
    rows: list[int] = field(default_factory=list)

    @property
    def inputs(self) -> list[Input]:
        return [self.state.inputs[row] for row in self.rows]


class EmbeddingEngine:
    """An embedding or reranking model; every call is made from one thread, as Engine's are.

    Inputs go through it up to `batch_tokens` at a time, or one that has more. Texts are tokenized
    by threads of its own, which call `wake` when a request's are done, for a step is due then, and
    now and then before.
    """

    def __init__(
        self,
        model: Embedder | Reranker,
        batch_tokens: int,
        admission: Admission,
        wake: Callable[[], None],
    ) -> None:
        self._model = model
        self._batch_tokens = batch_tokens
        self._admission = admission
        self._wake = wake
        self._states: dict[int, RequestState] = {}
        self._ready: deque[RequestState] = deque()  # tokenized; the next to be served comes first
        self._arrivals: SimpleQueue[RequestState] = SimpleQueue()
        self._readers = ThreadPoolExecutor(READERS)
        self._cost = 0.0, 0.0, 0.0, 0  # seconds and rows of the last step, as in StepReport
        self._woken = perf_counter()

    @property
    def busy(self) -> bool:
        return bool(self._ready) or not self._arrivals.empty()

    def submit(self, request: Embed | Rank) -> None:
        """Queue a request; raises Refusal if there are too many, or the model cannot answer it."""
        check(self._model, request)
        self._admission.enter(request.client, self._sequences(request))
        state = self._states[request.id] = RequestState(request)
        state.reading = self._readers.submit(self._inputs, request)
        state.reading.add_done_callback(lambda _: self._done(state))

    def cancel(self, request: int) -> None:
        """Forget a request before the next step; one that is over already is no mistake."""
        state = self._states.pop(request, None)
        if state is None:
            return
        self._admission.leave(state.request.client, self._sequences(state.request))
        if state.reading is not None:
            state.reading.cancel()
        if state.waits:
            self._ready.remove(state)

    def step(self) -> list[Event]:
        """Take what was read, and compute one batch; return its events."""
        began, self._cost = perf_counter(), (0.0, 0.0, 0.0, 0)
        events: list[Event] = [
            refused for state in self._arrived() if (refused := self._begin(state))
        ]
        if self._ready:
            events += self._compute(self._batch(), began)
        return events

    def report(self) -> StepReport:
        """Report what the last step cost, and how things stand now."""
        waiting = len(self._states) - len(self._ready)
        return StepReport(*self._cost, len(self._ready), waiting)

    def close(self) -> None:
        self._readers.shutdown(cancel_futures=True)

    def _sequences(self, request: Embed | Rank) -> int:
        texts = request.inputs if isinstance(request, Embed) else request.documents
        return self._admission.sequences(len(texts))

    def _inputs(self, request: Embed | Rank) -> list[Input]:
        """Read inputs, in a reader's thread, as long as somebody waits for them."""

        def awaited(_: Input) -> bool:
            if perf_counter() - self._woken > SIGN:
                self._woken = perf_counter()
                self._wake()
            return request.id in self._states

        return list(takewhile(awaited, read_inputs(self._model, request)))

    def _done(self, state: RequestState) -> None:
        self._arrivals.put(state)
        self._wake()

    def _arrived(self) -> Iterator[RequestState]:
        """Yield what was read since, unless it was cancelled."""
        while not self._arrivals.empty():
            state = self._arrivals.get()
            if self._states.get(state.request.id) is state:
                yield state

    def _begin(self, state: RequestState) -> Refused | None:
        assert state.reading is not None
        error = state.reading.exception()
        if error is not None:
            refusal = error if isinstance(error, Refusal) else _unreadable(error)
            return self._refused(state, refusal)
        state.inputs, state.reading = state.reading.result(), None
        self._ready.append(state)
        return None

    def _batch(self) -> list[Share]:
        """Take an input of each client in turn, and again, while one more fits."""
        first = self._ready[0]
        shares = [Share(s) for s in self._ready if s.dimensions == first.dimensions]
        left, turns = self._batch_tokens, by_client(shares)
        while turns:
            taking = turns.popleft()
            share = taking.popleft()
            state = share.state
            length = len(state.inputs[state.begun].tokens)
            if length <= left or (state is first and not share.rows):
                left -= length
                share.rows.append(state.begun)
                state.begun += 1
                if state.waits:
                    taking.append(share)
            if taking:
                turns.append(taking)
        self._ready.rotate(-1)
        left_over = (state for state in self._ready if state.waits)
        client = first.request.client  # the next batch is another's, if there is one
        self._ready = deque(sorted(left_over, key=lambda state: state.request.client == client))
        return [share for share in shares if share.rows]

    def _compute(self, shares: Sequence[Share], began: float) -> list[Event]:
        inputs = [input for share in shares for input in share.inputs]
        rows, built = sum(len(input.tokens) for input in inputs), perf_counter()
        try:
            values = compute(self._model, inputs, shares[0].state.dimensions)
        except (ValueError, RuntimeError):  # what mlx raises, of memory for one
            traceback.print_exc()
            return [self._refused(share.state, _failed()) for share in shares]
        computed = perf_counter()
        stops = np.cumsum([len(share.rows) for share in shares])
        parts = np.split(values, stops[:-1])
        events = [self._answered(*pair) for pair in zip(shares, parts, strict=True)]
        self._cost = built - began, computed - built, perf_counter() - computed, rows
        return events

    def _answered(self, share: Share, values: Floats) -> Event:
        if not np.isfinite(values).all():
            return self._refused(share.state, broken_numbers())
        over = not share.state.waits
        if over:
            self.cancel(share.state.request.id)
        return answer(share, values, over)

    def _refused(self, state: RequestState, refusal: Refusal) -> Refused:
        self.cancel(state.request.id)
        return Refused.of(state.request.id, refusal)


def by_client(shares: Sequence[Share]) -> deque[deque[Share]]:
    """Return the shares of each client, in the order in which the clients come first."""
    clients = defaultdict[str, deque[Share]](deque)
    for share in shares:
        clients[share.state.request.client].append(share)
    return deque(clients.values())


def check(model: Embedder | Reranker, request: Embed | Rank) -> None:
    """Raise Refusal for what needs no reading to be refused."""
    match model, request:
        case (_, Embed(inputs=[]) | Rank(documents=[])):
            raise Refusal(400, "invalid_value", "There is nothing to be done: no text was given.")
        case (Embedder(dimension=width), Embed(dimensions=cut)):
            if cut is not None and not 1 <= cut <= width:
                message = f"dimensions is {cut}; this model's vectors have {width}."
                raise Refusal(400, "invalid_value", message, "dimensions")
        case (Reranker(), Rank()):
            pass
        case _:
            raise Refusal(400, "unsupported_model", "This model has another purpose.", "model")


def read_inputs(model: Embedder | Reranker, request: Embed | Rank) -> Iterator[Input]:
    """Yield the inputs, one after the other; raise Refusal for one that cannot be taken."""
    match model, request:
        case (Embedder() as embedder, Embed(inputs=inputs, prompt=prompt)):
            for row, each in enumerate(inputs):
                read = partial(embedder.read, [each], prompt)
                yield _input(read, request.truncate, "input", row)
        case (Reranker() as reranker, Rank(query=query, documents=documents, prompt=prompt)):
            for row, each in enumerate(documents):
                read = partial(reranker.read, query, [each], prompt=prompt)
                yield _input(read, request.truncate, "documents", row)


def _input(read: Callable[[bool], list[Input]], truncate: bool, field: str, row: int) -> Input:
    try:
        (input,) = read(truncate)
    except InputError as error:
        too_long = not truncate and _succeeds(read)
        code = "context_length_exceeded" if too_long else "invalid_value"
        remedy = '; shorten it, or send "truncate": true' if too_long else ""
        raise Refusal(400, code, f"{field}[{row}]: {error}{remedy}.", field) from None
    return input


def _succeeds(read: Callable[[bool], list[Input]]) -> bool:
    """Return whether there is nothing wrong but the length."""
    try:
        read(True)
    except InputError:
        return False
    return True


def compute(model: Embedder | Reranker, inputs: Sequence[Input], dimensions: int | None) -> Floats:
    """Return (inputs, numbers): vectors, or scores of one number each."""
    if isinstance(model, Embedder):
        return model.vectors(inputs, dimensions)
    return np.array(model.scores(inputs), np.float32)[:, None]


def answer(share: Share, values: Floats, over: bool) -> Embedded | Ranked:
    request, rows = share.state.request, share.rows
    tokens = sum(len(each.tokens) for each in share.inputs)
    if isinstance(request, Embed):
        return Embedded(request.id, rows, values.astype("<f4").tobytes(), tokens, over)
    return Ranked(request.id, rows, [float(value) for value in values[:, 0]], tokens, over)


def _unreadable(error: BaseException) -> Refusal:
    """Refuse what made the tokenizers package fail, which raises bare Exceptions."""
    traceback.print_exception(error, file=sys.stderr)
    return Refusal(500, "tokenizer", "The model's tokenizer failed on this input.")


def _failed() -> Refusal:
    return Refusal(500, "internal_error", "The model could not be computed; see the server's log.")
