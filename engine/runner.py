"""Runs a step's batch through the model; the only holder of the KV pools between steps."""

from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx

from ..architectures.decoder import Decoder
from ..kernels.pages import Layout, Pages, flush
from .batch import Batch
from .tails import Tails


class Runner:
    """With `tails`, steps that only decode leave the pools alone (kernels.pages.Tail)."""

    def __init__(
        self, decoder: Decoder, pools: Sequence[Pages], tails: Tails | None = None
    ) -> None:
        self._decoder = decoder
        self._pools = pools
        self._tails = tails

    def __call__(self, batch: Batch) -> mx.array:
        """The wanted rows' logits, (wanted, vocabulary) float32, evaluated.

        Evaluated together with the pools, and the old pools dropped first: only so does MLX
        append in place rather than to a copy.
        """
        layout = self._turn(batch) if self._tails else batch.layout
        pools, self._pools = self._pools, ()
        logits, pools = self._decoder(batch.tokens, layout, pools, batch.rows)
        mx.eval(logits, [array for pool in pools for array in pool.arrays])
        self._pools = pools
        return logits

    def _turn(self, batch: Batch) -> Layout:
        """Brings into the pools what has to be there before the step, and begins its tails."""
        assert self._tails is not None
        layout = batch.layout
        turn = self._tails.turn(
            batch.sequences,
            batch.positions.tolist(),
            batch.tables.tolist(),
            decoding=not layout.prefills,
        )
        if turn.moves or not turn.continued:
            moves = [(move.row, move.part, move.into) for move in turn.moves]
            pools, self._pools = self._pools, ()
            self._pools = [flush(pool, moves, turn.continued) for pool in pools]
            mx.eval([array for pool in self._pools for array in pool.arrays])
        starts = None if turn.starts is None else mx.array(turn.starts, mx.int32)
        return replace(layout, tails=starts)
