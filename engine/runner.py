"""Runs a step's batch through the model; the only holder of the caches between steps."""

from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx

from ..architectures.config import Paged
from ..architectures.decoder import Decoder
from ..architectures.step import Cache, StepRows
from ..kernels.attention.pages import PAGE, TAIL_PAGES, Append, Pages, flush
from ..kernels.recurrent.runs import States
from .batch import Batch, Output
from .kv_cache import arrays_of
from .prepared_step import PreparedStep
from .tails import Tails, TailUpdate
from .traced_step import FlatCaches, TracedStep


class Runner:
    """The runner of steps; if `tailed`, those that only decode leave pools alone (pages.Tail).

    If `traced`, their graph is built once a shape; for that no kernel may look at numbers. If
    `prepared`, they are run by C alone. If `ahead`, a step may come while the one before is in
    flight.
    """

    def __init__(
        self,
        decoder: Decoder,
        caches: Sequence[Cache],
        tailed: bool = False,
        traced: bool = False,
        ahead: bool = False,
        prepared: bool = False,
    ) -> None:
        config = decoder.config
        self._decoder = decoder
        self._caches: list[Cache] | FlatCaches = list(caches)
        self._groups = [
            config.windows.index(spec.window) if isinstance(spec, Paged) else None
            for spec in config.caches
        ]
        self._tails = [Tails(PAGE, TAIL_PAGES) for _ in config.windows] if tailed else []
        self._traced = TracedStep(decoder, self._groups) if traced else None
        self._prepared = PreparedStep(decoder) if prepared else None
        self._moved = True  # the caches may be elsewhere than the prepared steps know
        self._ahead = ahead
        ways = {cache.append for cache in caches if isinstance(cache, Pages)}
        replaces = any(isinstance(cache, States) for cache in caches)
        self._replaces = replaces or Append.FUNCTIONAL in ways  # something in each step
        self._prompts_replace = self._replaces or Append.TAIL in ways

    def __call__(self, batch: Batch) -> Output:
        """Return the logits of `batch.rows`, and the states of `batch.embedded`, submitted.

        They are submitted together with the caches, and the old caches are dropped first: only so
        does MLX append in place rather than to a copy. What replaces a pool or a state waits, once
        its graph is built, for the step before, which may be reading it; a step that writes tails,
        or writes in place through a pointer, follows at once.
        """
        if batch.copies:
            self._copy(batch.copies)
        if self._prepared is not None and batch.answering:
            logits = self._run(self._prepared, batch)
            if logits is not None:
                return Output(logits)
        step = self._update_tails(batch) if self._tails else batch.step
        if self._traced is not None and batch.answering:
            out, self._caches = self._traced(batch.tokens, step, self._take_flat(self._traced))
            output = Output(out[0])
        else:
            output, caches = self._computed(batch, step)
            hidden = [] if output.hidden is None else [output.hidden]
            out, self._caches = [output.logits, *hidden, *arrays_of(caches)], caches
        self._submit(out, self._replaces if batch.decoding else self._prompts_replace)
        return output

    def _computed(self, batch: Batch, step: StepRows) -> tuple[Output, list[Cache]]:
        decoder, caches = self._decoder, self._take()
        if batch.embedded is None:
            logits, caches = decoder(batch.tokens, step, caches, batch.rows)
            return Output(logits), caches
        x, caches = decoder.hidden(batch.tokens, step, caches)
        hidden = decoder.norm(x[batch.embedded]).astype(mx.float32)
        return Output(decoder.logits(x[batch.rows]), hidden), caches

    def _run(self, prepared: PreparedStep, batch: Batch) -> mx.array | None:
        """Run a prepared step, if there is one for this batch."""
        assert isinstance(self._caches, list)
        if self._moved:
            prepared.look(self._caches)
            self._moved = False
        return prepared(batch.tokens, batch.step, self._caches)

    def _submit(self, arrays: list[mx.array], replaces: bool) -> None:
        """Submit arrays, once nothing in flight reads what they replace: MLX would replace a copy.

        Where no step runs ahead nothing is in flight, and to ask would cost 14 microseconds.
        """
        if replaces and self._ahead:
            mx.synchronize()
        mx.async_eval(arrays)  # type: ignore[no-untyped-call]

    def _take(self) -> list[Cache]:
        """Return the caches, which nobody has but the caller then."""
        caches, self._caches = self._caches, []
        self._moved = True
        if isinstance(caches, FlatCaches):
            assert self._traced is not None
            return self._traced.filled(caches)
        return caches

    def _take_flat(self, traced: TracedStep) -> FlatCaches:
        caches, self._caches = self._caches, []
        return caches if isinstance(caches, FlatCaches) else traced.flat(caches)

    def _copy(self, copies: Sequence[tuple[int, int]]) -> None:
        """Copy states from state slot to state slot."""
        caches = self._take()
        for source, into in together(copies):
            caches = [
                cache.copied(source, into) if isinstance(cache, States) else cache
                for cache in caches
            ]
        self._submit(arrays_of(caches), True)
        self._caches = caches

    def _update_tails(self, batch: Batch) -> StepRows:
        """Bring into the pools what has to be there before the step, and begin its tails."""
        positions, decoding = batch.positions.tolist(), batch.decoding
        updates = [
            tails.update(batch.sequences, positions, tables.tolist(), decoding)
            for tails, tables in zip(self._tails, batch.tables, strict=True)
        ]
        if not all(update.continued and not update.moves for update in updates):
            caches = [
                _flushed(cache, None if group is None else updates[group])
                for cache, group in zip(self._take(), self._groups, strict=True)
            ]
            self._submit(arrays_of(caches), True)
            self._caches = caches
        layouts = tuple(
            replace(layout, tails=None if each.starts is None else mx.array(each.starts, mx.int32))
            for layout, each in zip(batch.step.layouts, updates, strict=True)
        )
        return replace(batch.step, layouts=layouts)


def _flushed(cache: Cache, tails: TailUpdate | None) -> Cache:
    if tails is None or not isinstance(cache, Pages):
        return cache
    return flush(cache, [(move.row, move.part, move.into) for move in tails.moves], tails.continued)


def together(copies: Sequence[tuple[int, int]]) -> list[tuple[list[int], list[int]]]:
    """Group copies into as few batches as it takes: none touches again what it has written.

    A batch reads everything before it writes, so it may read a state slot and write it.
    """
    batches: list[tuple[list[int], list[int]]] = []
    for source, into in copies:
        if not batches or {source, into} & set(batches[-1][1]):
            batches.append(([], []))
        batches[-1][0].append(source)
        batches[-1][1].append(into)
    return batches
