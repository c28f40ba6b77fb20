"""Runs a step's batch through the model; the only holder of the caches between steps."""

from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx

from ..architectures.config import Paged
from ..architectures.decoder import Decoder
from ..architectures.step import Cache, StepRows
from ..kernels.attention.pages import PAGE, TAIL_PAGES, Pages, flush
from ..kernels.recurrent.runs import States
from .batch import Batch
from .kv_cache import arrays_of
from .tails import Tails, Turn


class Runner:
    """With tails, steps that only decode leave the pools alone (kernels.pages.Tail)."""

    def __init__(self, decoder: Decoder, caches: Sequence[Cache], tailed: bool = False) -> None:
        config = decoder.config
        self._decoder = decoder
        self._caches = list(caches)
        self._groups = [
            config.windows.index(kept.window) if isinstance(kept, Paged) else None
            for kept in config.caches
        ]
        self._tails = [Tails(PAGE, TAIL_PAGES) for _ in config.windows] if tailed else []

    def __call__(self, batch: Batch) -> mx.array:
        """The wanted rows' logits, (wanted, vocabulary) float32, evaluated.

        Evaluated together with the caches, and the old caches dropped first: only so does MLX
        append in place rather than to a copy.
        """
        if batch.copies:
            self._copy(batch.copies)
        step = self._turn(batch) if self._tails else batch.step
        caches, self._caches = self._caches, []
        logits, caches = self._decoder(batch.tokens, step, caches, batch.rows)
        mx.eval(logits, arrays_of(caches))
        self._caches = caches
        return logits

    def _copy(self, copies: Sequence[tuple[int, int]]) -> None:
        """Of states, from slot to slot."""
        caches, self._caches = self._caches, []
        for source, into in together(copies):
            caches = [
                cache.copied(source, into) if isinstance(cache, States) else cache
                for cache in caches
            ]
        mx.eval(arrays_of(caches))
        self._caches = caches

    def _turn(self, batch: Batch) -> StepRows:
        """Brings into the pools what has to be there before the step, and begins its tails."""
        positions, decoding = batch.positions.tolist(), batch.decodes == len(batch.sequences)
        turns = [
            tails.turn(batch.sequences, positions, tables.tolist(), decoding)
            for tails, tables in zip(self._tails, batch.tables, strict=True)
        ]
        if not all(turn.continued and not turn.moves for turn in turns):
            caches, self._caches = self._caches, []
            caches = [
                _flushed(cache, None if group is None else turns[group])
                for cache, group in zip(caches, self._groups, strict=True)
            ]
            mx.eval(arrays_of(caches))
            self._caches = caches
        layouts = tuple(
            replace(layout, tails=None if turn.starts is None else mx.array(turn.starts, mx.int32))
            for layout, turn in zip(batch.step.layouts, turns, strict=True)
        )
        return replace(batch.step, layouts=layouts)


def _flushed(cache: Cache, turn: Turn | None) -> Cache:
    if turn is None or not isinstance(cache, Pages):
        return cache
    return flush(cache, [(move.row, move.part, move.into) for move in turn.moves], turn.continued)


def together(copies: Sequence[tuple[int, int]]) -> list[tuple[list[int], list[int]]]:
    """The same in as few batches as it takes: none reads or writes again what it has written.

    A batch reads all before it writes, so that a slot may be read and written by it.
    """
    batches: list[tuple[list[int], list[int]]] = []
    for source, into in copies:
        if not batches or {source, into} & set(batches[-1][1]):
            batches.append(([], []))
        batches[-1][0].append(source)
        batches[-1][1].append(into)
    return batches
