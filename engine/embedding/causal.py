"""Passages through a decoder: their hidden states, over caches that last a batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ...architectures.config import ModelConfig, Recurrent
from ...architectures.decoder import Decoder
from ...architectures.step import Cache, StepRows
from ...kernels.attention.pages import FORMATS, PAGE, Layout, Prefill
from ...kernels.recurrent.runs import Runs
from .. import kv_cache
from ..cache_sizes import CacheSizes

SEQUENCES = 16  # that go together where layers keep a state of each, which may be large


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens `start` to `stop` of a passage, by its number in the batch."""

    passage: int
    start: int
    stop: int


class Causal:
    """Tokens see those before them; the caches grow with the longest passage there has been."""

    def __init__(self, decoder: Decoder, most: int) -> None:
        """`most` tokens go through the decoder together; a longer passage goes in parts."""
        self._decoder, self._most = decoder, most
        recurrent = any(isinstance(kept, Recurrent) for kept in decoder.config.caches)
        self._states = SEQUENCES if recurrent else 0
        self._pages = -(-most // PAGE)
        self._caches: list[Cache] = []

    def __call__(self, passages: Sequence[Sequence[int]]) -> list[mx.array]:
        """Each passage's hidden states, (tokens, width), evaluated, before the last norm."""
        lengths = [len(passage) for passage in passages]
        self._reserve(max(-(-length // PAGE) for length in lengths))
        found: list[list[mx.array]] = [[] for _ in passages]
        for pieces in forwards(lengths, self._most, self._states or len(lengths)):
            for piece, rows in zip(pieces, self._forward(passages, pieces), strict=True):
                found[piece.passage].append(rows)
        return [parts[0] if len(parts) == 1 else mx.concatenate(parts) for parts in found]

    def _reserve(self, pages: int) -> None:
        if self._caches and pages <= self._pages:
            return
        config = self._decoder.config
        self._pages, self._caches = max(pages, self._pages), []
        sizes = CacheSizes(config.windows, (self._pages,) * len(config.windows), self._states)
        self._caches = kv_cache.allocate(config, sizes, FORMATS[self._decoder.dtype])

    def _forward(
        self, passages: Sequence[Sequence[int]], pieces: Sequence[Piece]
    ) -> list[mx.array]:
        """Each piece's hidden states; old caches are dropped before the new ones are evaluated."""
        parts = [passages[piece.passage][piece.start : piece.stop] for piece in pieces]
        reaches = [len(passages[piece.passage]) for piece in pieces]
        caches, self._caches = self._caches, []
        step = _step(self._decoder.config, pieces, reaches)
        x, caches = self._decoder.hidden(_tokens(parts), step, caches)
        mx.eval(x, kv_cache.arrays_of(caches))
        self._caches = caches
        return _split(x, parts)


@dataclass(frozen=True, slots=True)
class TwoWay:
    """Tokens see those after them too, and nothing is kept."""

    decoder: Decoder

    def __call__(self, passages: Sequence[Sequence[int]]) -> list[mx.array]:
        """Each passage's hidden states, (tokens, width), evaluated, before the last norm."""
        lengths = [len(passage) for passage in passages]
        config = self.decoder.config
        positions = np.concatenate([np.arange(length) for length in lengths])
        runs = Runs.of(lengths, list(range(len(lengths))), [True] * len(lengths))
        placed = mx.array(positions.astype(np.int32))
        step = StepRows((), placed, runs, _reaches(config, lengths, lengths))
        x, _ = self.decoder.hidden(_tokens(passages), step, [None] * config.layers)
        mx.eval(x)
        return _split(x, passages)


def forwards(lengths: Sequence[int], most: int, sequences: int) -> list[list[Piece]]:
    """What goes together: so many whole passages as fit, or a part of one that does not.

    What fits is counted in pages, of which every passage has its own, so that `most` tokens always
    have room.
    """
    room, free = -(-most // PAGE), 0
    found: list[list[Piece]] = []
    for passage, length in enumerate(lengths):
        pages = -(-length // PAGE)
        if pages > room:
            starts = range(0, length, most)
            found += [[Piece(passage, at, min(at + most, length))] for at in starts]
            free = 0
            continue
        if pages > free or len(found[-1]) == sequences:
            found.append([])
            free = room
        found[-1].append(Piece(passage, 0, length))
        free -= pages
    return found


def _step(config: ModelConfig, pieces: Sequence[Piece], reaches: Sequence[int]) -> StepRows:
    """Pages and states are dealt out anew: a passage in parts has the same ones each time."""
    counts = [piece.stop - piece.start for piece in pieces]
    owners = np.repeat(np.arange(len(pieces), dtype=np.int32), counts)
    positions = np.concatenate([np.arange(p.start, p.stop) for p in pieces]).astype(np.int32)
    tables = _tables([-(-piece.stop // PAGE) for piece in pieces])
    slots = tables[owners, positions // PAGE] * PAGE + positions % PAGE
    ends = np.cumsum(counts).tolist()
    each = zip(pieces, counts, ends, strict=True)
    runs = tuple(Prefill(end - count, end, piece.stop) for piece, count, end in each)
    placed = mx.array(positions)
    layout = Layout(placed, mx.array(slots), mx.array(owners), mx.array(tables), 0, runs)
    fresh = [piece.start == 0 for piece in pieces]
    recurrent = any(isinstance(kept, Recurrent) for kept in config.caches)
    return StepRows(
        (layout,) * len(config.windows),
        placed,
        Runs.of(counts, list(range(1, len(pieces) + 1)), fresh) if recurrent else None,
        _reaches(config, reaches, counts),
    )


def _tables(counts: Sequence[int]) -> np.ndarray:
    """(sequences, most pages) int32, pages 1 and on in order, padded with page 0."""
    tables = np.zeros((len(counts), max(counts)), dtype=np.int32)
    first = 1
    for table, count in zip(tables, counts, strict=True):
        table[:count] = np.arange(first, first + count)
        first += count
    return tables


def _reaches(config: ModelConfig, reaches: Sequence[int], counts: Sequence[int]) -> mx.array | None:
    if not any(rope.varies for rope in config.ropes):
        return None
    return mx.array(np.repeat(np.array(reaches, dtype=np.int32), counts))


def _tokens(parts: Sequence[Sequence[int]]) -> mx.array:
    return mx.array(np.concatenate([np.asarray(part, dtype=np.int32) for part in parts]))


def _split(x: mx.array, parts: Sequence[Sequence[int]]) -> list[mx.array]:
    return list(mx.split(x, np.cumsum([len(part) for part in parts])[:-1].tolist()))
