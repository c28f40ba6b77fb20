"""A model without weights: its next token depends on every token that lies in its pages."""

import zlib
from collections.abc import Iterable, Iterator, Sequence

import mlx.core as mx
import numpy as np

from bessemer.engine.batch import Batch
from bessemer.engine.engine import Engine
from bessemer.engine.request import Event, Refused, Request, Sampling, Token
from bessemer.engine.scheduler import Limits
from bessemer.engine.text import AnswerText, StopMatcher
from bessemer.kernels.pages import PAGE

VOCABULARY = 50
END = 0


class Letters:
    """Token n is the n-th character from the space on; the end token is nothing."""

    def add(self, token: int) -> str:
        return chr(32 + token) if token != END else ""

    def flush(self) -> str:
        return ""


class PaperModel:
    """Writes tokens where keys and values would go, and reads them back through the tables."""

    def __init__(self, pages: int) -> None:
        self.pool = np.full((pages + 1) * PAGE, -1)
        self.steps: list[int] = []  # rows of each step
        self.computed = 0

    def __call__(self, batch: Batch) -> mx.array:
        self.pool[np.array(batch.layout.slots)] = np.array(batch.tokens)
        self.steps.append(batch.tokens.shape[0])
        self.computed += batch.tokens.shape[0]
        contexts = list(self._contexts(batch))
        rows = [logits_after(contexts[row]) for row in np.array(batch.rows)]
        return mx.array(np.stack(rows) if rows else np.zeros((0, VOCABULARY), dtype=np.float32))

    def _contexts(self, batch: Batch) -> Iterator[list[int]]:
        layout = batch.layout
        for row in range(layout.decodes):
            yield self._read(np.array(layout.tables[row]), int(layout.positions[row]) + 1)
        for sequence, run in enumerate(layout.prefills, layout.decodes):
            for context in range(run.context - (run.stop - run.start) + 1, run.context + 1):
                yield self._read(np.array(layout.tables[sequence]), context)

    def _read(self, table: np.ndarray, context: int) -> list[int]:
        positions = np.arange(context)
        return self.pool[table[positions // PAGE] * PAGE + positions % PAGE].tolist()


def logits_after(tokens: Sequence[int]) -> np.ndarray:
    """Unrelated logits for each different history; the end token is never likely."""
    seed = zlib.crc32(np.array(tokens, dtype=np.int32).tobytes())
    logits = np.random.RandomState(seed).normal(size=VOCABULARY).astype(np.float32) * 3
    logits[END] = -20
    return logits


def greedy(prompt: Sequence[int], count: int) -> list[int]:
    """What the model answers when nothing else runs."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(np.argmax(logits_after(tokens))))
    return tokens[len(prompt) :]


def engine(pages: int = 64, **limits: int) -> tuple[Engine, PaperModel]:
    model = PaperModel(pages)
    settings = Limits(**({"context": pages * PAGE} | limits))
    return Engine(model, settings, pages, [END], text), model


def text(stops: Sequence[str], least: int) -> AnswerText:
    return AnswerText(Letters(), StopMatcher(stops), least)


def ask(number: int, prompt: Sequence[int], count: int, **more: object) -> Request:
    """A greedy request unless `more` says otherwise."""
    settings = {"sampling": Sampling(temperature=0)} | more
    return Request(id=number, tokens=list(prompt), max_tokens=count, **settings)  # type: ignore[arg-type]


def prompt(seed: int, length: int) -> list[int]:
    return np.random.RandomState(seed).randint(1, VOCABULARY, size=length).tolist()


def answers(events: Iterable[Event]) -> dict[int, list[int]]:
    """All tokens of each request; a refusal is a failure of the test."""
    found: dict[int, list[int]] = {}
    for event in events:
        assert not isinstance(event, Refused), event
        if isinstance(event, Token):
            found.setdefault(event.request, []).extend(event.tokens)
    return found
