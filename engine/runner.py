"""Runs a step's batch through the model; the only holder of the KV pools between steps."""

from collections.abc import Sequence

import mlx.core as mx

from ..architectures.decoder import Decoder
from ..kernels.pages import Pages
from .batch import Batch


class Runner:
    def __init__(self, decoder: Decoder, pools: Sequence[Pages]) -> None:
        self._decoder = decoder
        self._pools = pools

    def __call__(self, batch: Batch) -> mx.array:
        """The wanted rows' logits, (wanted, vocabulary) float32, evaluated.

        Evaluated together with the pools, and the old pools dropped first: only so does MLX
        append in place rather than to a copy.
        """
        pools, self._pools = self._pools, ()
        logits, pools = self._decoder(batch.tokens, batch.layout, pools, batch.rows)
        mx.eval(logits, [array for pool in pools for array in pool.arrays])
        self._pools = pools
        return logits
