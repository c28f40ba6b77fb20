"""A model without weights: its next token depends on every token that lies in its pages."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, cast

import mlx.core as mx
import numpy as np

from bessemer.engine.batch import Batch, Output
from bessemer.engine.cache_sizes import CacheSizes
from bessemer.engine.engine import Engine
from bessemer.engine.grammar.compiler import Compiler
from bessemer.engine.grammar.grammars import Grammars
from bessemer.engine.pager import Pager
from bessemer.engine.request import Embedded, Event, Refused, Request, Sampling, Token
from bessemer.engine.scheduler import Limits
from bessemer.engine.text.answer_text import AnswerText, make_splitter
from bessemer.engine.text.detokenizer import AnswerDetokenizer
from bessemer.engine.text.specials import Specials
from bessemer.engine.text.stops import StopMatcher
from bessemer.engine.text.thought_meter import ThoughtMeter
from bessemer.engine.text.tokenizer import Tokenizer
from bessemer.engine.token_rules import NO_RULES, GenerationRules
from bessemer.kernels.attention.pages import PAGE
from bessemer.kernels.recurrent.runs import Runs

VOCABULARY = 50
END = 0
FULL = CacheSizes((None,), (64,))


class Letters:
    """Token n is the n-th character from the space on; the end token is nothing."""

    whole = True

    def add(self, token: int) -> str:
        return chr(32 + token) if token != END else ""

    def flush(self) -> str:
        return ""


class LetterTokenizer:
    """What a grammar asks of a tokenizer, for these letters."""

    special_names: ClassVar = {END: "<end>"}

    def token_bytes(self, token: int) -> bytes:
        return bytes([32 + token]) if token != END else b"<end>"

    def encode(self, text: str, special: bool = True) -> list[int]:
        return [ord(letter) - 32 for letter in text]

    def id_of(self, name: str) -> int | None:
        return ord(name) - 32 if len(name) == 1 else None


class PaperModel:
    """Writes tokens where keys and values would go, and reads them back through the tables.

    Where there are states, one is the tokens so far.
    """

    def __init__(self, sizes: CacheSizes) -> None:
        self.sizes = sizes
        self.pools = [np.full((pages + 1) * PAGE, -1) for pages in sizes.pages]
        self.states: list[list[int]] = [[-1] for _ in range(sizes.states + 1)]
        self.steps: list[int] = []  # rows of each step
        self.computed = 0

    def __call__(self, batch: Batch) -> Output:
        for source, into in batch.copies:
            self.states[into] = self.states[source]
        for pool, layout in zip(self.pools, batch.step.layouts, strict=True):
            pool[np.array(layout.slot_mapping)] = np.array(batch.tokens)
        self.steps.append(batch.tokens.shape[0])
        self.computed += batch.tokens.shape[0]
        contexts = self._contexts(batch)
        embedded = None if batch.embedded is None else _after(contexts, batch.embedded)
        return Output(_after(contexts, batch.rows), embedded)

    def _contexts(self, batch: Batch) -> list[list[int]]:
        """Return all that each row sees, a group after the other, and then its state."""
        out: list[list[int]] = [[] for _ in batch.positions]
        parts = zip(self.sizes.windows, self.pools, batch.step.layouts, strict=True)
        for window, pool, layout in parts:
            tables, owners = np.array(layout.tables), np.array(layout.owners)
            for row, position in enumerate(np.array(layout.positions)):
                first = 0 if window is None else max(0, position + 1 - window)
                seen = np.arange(first, position + 1)
                pages = tables[owners[row]][seen // PAGE]
                out[row] += pool[pages * PAGE + seen % PAGE].tolist()
        if batch.step.runs is not None:
            for row, state in enumerate(self._states(batch.step.runs, np.array(batch.tokens))):
                out[row] += state
        return out

    def _states(self, runs: Runs, tokens: np.ndarray) -> Iterator[list[int]]:
        for i, state_slot in enumerate(runs.state_slots):
            state = [] if runs.fresh[i] else self.states[state_slot]
            for row in range(runs.starts[i], runs.starts[i + 1]):
                state = [*state, int(tokens[row])]
                yield state
            self.states[state_slot] = state


def _after(contexts: list[list[int]], rows: mx.array) -> mx.array:
    after = [logits_after(contexts[row]) for row in np.array(rows)]
    return mx.array(np.stack(after) if after else np.zeros((0, VOCABULARY), dtype=np.float32))


def rows_of(batch: Batch) -> list[int]:
    """Count the rows of each sequence of a batch."""
    if batch.step.runs is not None:
        return np.diff(batch.step.runs.starts).tolist()  # type: ignore[no-any-return]
    return np.bincount(np.array(batch.step.layouts[0].owners)).tolist()  # type: ignore[no-any-return]


def logits_after(tokens: Sequence[int]) -> np.ndarray:
    """Unrelated logits for each different history; the end token is never likely."""
    seed = zlib.crc32(np.array(tokens, dtype=np.int32).tobytes())
    logits = np.random.RandomState(seed).normal(size=VOCABULARY).astype(np.float32) * 3
    logits[END] = -20
    return logits


def greedy(prompt: Sequence[int], count: int, sizes: CacheSizes = FULL) -> list[int]:
    """Return what the model answers when nothing else runs."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(np.argmax(logits_after(_seen(tokens, sizes)))))
    return tokens[len(prompt) :]


def vector(tokens: Sequence[int], sizes: CacheSizes = FULL) -> np.ndarray:
    """Return the vector of a text, of whose tokens the logits are the hidden states."""
    ends = range(1, len(tokens) + 1)
    mean = np.mean([logits_after(_seen(tokens[:end], sizes)) for end in ends], axis=0)
    unit: np.ndarray = mean / np.linalg.norm(mean)
    return unit


def vectors(events: Iterable[Event]) -> dict[int, np.ndarray]:
    """Return each text's vector, by request."""
    embedded = (event for event in events if isinstance(event, Embedded))
    return {event.request: np.frombuffer(event.vectors, "<f4") for event in embedded}


def _seen(tokens: Sequence[int], sizes: CacheSizes) -> list[int]:
    """Return all that the last token sees, a group after the other, and then its state."""
    seen = [tokens[-(window or 0) :] for window in sizes.windows]
    return [token for part in [*seen, *([tokens] if sizes.states else [])] for token in part]


class Finite(Engine):
    """An engine in which steps that move nothing are a failure, and no test that hangs."""

    left = 10_000

    def step(self) -> list[Event]:
        self.left -= 1
        assert self.left, "it does not end"
        return super().step()


def engine(
    pages: int = 64,
    sizes: CacheSizes | None = None,
    rules: GenerationRules = NO_RULES,
    ahead: bool = False,
    grammars: Grammars | None = None,
    **limits: int,
) -> tuple[Engine, PaperModel]:
    """Make an engine over full attention with so many pages, or over pools of these sizes."""
    sizes = sizes or replace(FULL, pages=(pages,))
    model = PaperModel(sizes)
    settings = Limits(**({"context": pages * PAGE} | limits))
    grammars = grammars or Grammars(compiler())
    return Finite(model, settings, sizes, [END], text, (), rules, ahead, grammars), model


def compiler() -> Compiler:
    return Compiler(cast(Tokenizer, LetterTokenizer()), VOCABULARY)


def text(request: Request) -> AnswerText:
    splitter = None if request.thought is None else make_splitter(request.thought)
    specials = Specials({END: "<end>"}, (), request.stop)
    letters = AnswerDetokenizer(Letters(), specials)
    stops = StopMatcher(request.stop, specials=specials)
    meter = None
    if request.budget is not None and request.thought is not None:
        meter = ThoughtMeter(request.budget, make_splitter(request.thought))
    return AnswerText(letters, stops, request.min_tokens, splitter, meter)


def request_for(number: int, prompt: Sequence[int], count: int, **more: object) -> Request:
    """A greedy request unless `more` says otherwise."""
    settings = {"sampling": Sampling(temperature=0)} | more
    return Request(id=number, tokens=list(prompt), max_tokens=count, **settings)  # type: ignore[arg-type]


def prompt(seed: int, length: int) -> list[int]:
    return np.random.RandomState(seed).randint(1, VOCABULARY, size=length).tolist()


def answers(events: Iterable[Event]) -> dict[int, list[int]]:
    """All tokens of each request; a refusal is a failure of the test."""
    out: dict[int, list[int]] = {}
    for event in events:
        assert not isinstance(event, Refused), event
        if isinstance(event, Token):
            out.setdefault(event.request, []).extend(event.tokens)
    return out


def clear(pager: Pager) -> int:
    """Evict every idle page and every state; return how many there were."""
    groups = range(len(pager.pools))
    count = sum(pager.tree.idle(group) for group in groups)
    for group in groups:
        while pager.tree.evict(group):
            pass
    return count
