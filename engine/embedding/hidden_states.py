"""The hidden states of inputs that go through a decoder, over caches that last a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np

from ...architectures.config import ModelConfig, Recurrent
from ...architectures.decoder import Decoder
from ...architectures.step import Cache, StepRows
from ...kernels.attention.pages import FORMATS, PAGE
from ..batch import build_step, positions_of
from ..cache_sizes import CacheSizes
from ..kv_cache import allocate, arrays_of

SEQUENCES = 16  # that go together where layers keep a state of each, which may be large


@dataclass(frozen=True, slots=True)
class Piece:
    """The tokens `start` to `stop` of an input, by its number in the batch."""

    input: int
    start: int
    stop: int


class Causal:
    """A decoder whose tokens see those before them; caches grow with the longest input so far."""

    def __init__(self, decoder: Decoder, batch_tokens: int) -> None:
        """`batch_tokens` go through the decoder together; a longer input goes in parts."""
        self._decoder, self._batch_tokens = decoder, batch_tokens
        recurrent = any(isinstance(spec, Recurrent) for spec in decoder.config.caches)
        self._states = SEQUENCES if recurrent else 0
        self._pages = -(-batch_tokens // PAGE)
        self._caches: list[Cache] = []

    def __call__(self, inputs: Sequence[Sequence[int]]) -> list[mx.array]:
        """Return each input's hidden states, (tokens, width), evaluated, before the last norm."""
        lengths = [len(tokens) for tokens in inputs]
        self._reserve(max(-(-length // PAGE) for length in lengths))
        parts: list[list[mx.array]] = [[] for _ in inputs]
        for pieces in forwards(lengths, self._batch_tokens, self._states or len(lengths)):
            for piece, rows in zip(pieces, self._forward(inputs, pieces), strict=True):
                parts[piece.input].append(rows)
        return [mx.concatenate(rows) for rows in parts]

    def _reserve(self, pages: int) -> None:
        if self._caches and pages <= self._pages:
            return
        config = self._decoder.config
        self._pages, self._caches = max(pages, self._pages), []
        sizes = CacheSizes(config.windows, (self._pages,) * len(config.windows), self._states)
        self._caches = allocate(config, sizes, FORMATS[self._decoder.dtype])

    def _forward(self, inputs: Sequence[Sequence[int]], pieces: Sequence[Piece]) -> list[mx.array]:
        """Return each piece's states; old caches are dropped before new ones are evaluated."""
        parts = [inputs[piece.input][piece.start : piece.stop] for piece in pieces]
        max_lens = [len(inputs[piece.input]) for piece in pieces]
        caches, self._caches = self._caches, []
        step = _step(self._decoder.config, pieces, max_lens)
        x, caches = self._decoder.hidden(_tokens(parts), step, caches)
        mx.eval(x, arrays_of(caches))
        self._caches = caches
        return _split(x, parts)


@dataclass(frozen=True, slots=True)
class Bidirectional:
    """A decoder whose tokens see those after them too; it keeps no cache."""

    decoder: Decoder

    def __call__(self, inputs: Sequence[Sequence[int]]) -> list[mx.array]:
        """Return each input's hidden states, (tokens, width), evaluated, before the last norm."""
        lengths = [len(tokens) for tokens in inputs]
        config, positions = self.decoder.config, positions_of([0] * len(lengths), lengths)
        numbers = range(1, len(lengths) + 1)
        step = build_step(positions, lengths, (), 0, numbers, _varying(config, lengths))
        x, _ = self.decoder.hidden(_tokens(inputs), step, [None] * config.layers)
        mx.eval(x)
        return _split(x, inputs)


def forwards(lengths: Sequence[int], batch_tokens: int, sequences: int) -> list[list[Piece]]:
    """Group inputs that go together: as many whole ones as fit, or a part of one that does not.

    What fits is counted in pages, of which every input has its own, so that `batch_tokens` always
    fit; no group has more than `sequences` inputs.
    """
    pages, free = -(-batch_tokens // PAGE), 0
    groups: list[list[Piece]] = []
    for number, length in enumerate(lengths):
        needed = -(-length // PAGE)
        if needed > pages:
            starts = range(0, length, batch_tokens)
            groups += [[Piece(number, at, min(at + batch_tokens, length))] for at in starts]
            free = 0
            continue
        if needed > free or len(groups[-1]) == sequences:
            groups.append([])
            free = pages
        groups[-1].append(Piece(number, 0, length))
        free -= needed
    return groups


def _step(config: ModelConfig, pieces: Sequence[Piece], max_lens: Sequence[int]) -> StepRows:
    """Deal out pages and states anew; an input in parts has the same ones each time."""
    counts = [piece.stop - piece.start for piece in pieces]
    tables = _tables([-(-piece.stop // PAGE) for piece in pieces])
    recurrent = any(isinstance(spec, Recurrent) for spec in config.caches)
    state_slots = range(1, len(pieces) + 1) if recurrent else ()
    positions = positions_of([piece.start for piece in pieces], counts)
    step = build_step(positions, counts, [tables], 0, state_slots, _varying(config, max_lens))
    return replace(step, layouts=step.layouts * len(config.windows))


def _tables(counts: Sequence[int]) -> np.ndarray:
    """Return (sequences, longest) int32: pages 1 and on in order, padded with the null page."""
    tables = np.zeros((len(counts), max(counts)), dtype=np.int32)
    for table, count, stop in zip(tables, counts, np.cumsum(counts), strict=True):
        table[:count] = np.arange(stop - count, stop) + 1
    return tables


def _varying(config: ModelConfig, max_lens: Sequence[int]) -> Sequence[int]:
    """Return `max_lens` where a rope depends on them."""
    return max_lens if any(rope.varies for rope in config.ropes) else ()


def _tokens(parts: Sequence[Sequence[int]]) -> mx.array:
    return mx.array(np.concatenate([np.asarray(part, dtype=np.int32) for part in parts]))


def _split(x: mx.array, parts: Sequence[Sequence[int]]) -> list[mx.array]:
    return list(mx.split(x, np.cumsum([len(part) for part in parts])[:-1].tolist()))
