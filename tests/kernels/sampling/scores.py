"""The scores of logits, waited for."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from bessemer.kernels.sampling.logprobs import LOGPROBS, RowLogprobs


def logprobs(
    logits: mx.array, rows: Sequence[int], tokens: Sequence[int], most: int
) -> RowLogprobs:
    """Run `LOGPROBS` of a token each of some rows, and of at most as many as there are."""
    parts = LOGPROBS(logits, rows, mx.array(list(tokens), mx.int32), min(most, logits.shape[-1]))
    mx.eval(parts)
    return RowLogprobs(*(np.array(part) for part in parts))
