"""Log probabilities of logits: a row's chosen token and its likeliest ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..cpu.library import ARRAY, INT, VALUES, Function, empty
from ..metal.library import kernel, padded, scalar
from ..registry import InMetal, Key, Operation, bucket, in_c, in_float32

THREADS = 512  # as in logprobs.metal
Parts = tuple[mx.array, mx.array, mx.array]  # the fields of RowLogprobs, perhaps not evaluated


@dataclass(frozen=True, slots=True)
class RowLogprobs:
    """chosen: (rows,) float32; ids, scores: (rows, most), likeliest first, equal ones by id."""

    chosen: np.ndarray
    ids: np.ndarray
    scores: np.ndarray


def _has_rows(logits: mx.array, rows: Sequence[int], *_: object) -> int:
    return len(rows)


@in_c("op_logprobs", VALUES, ARRAY, ARRAY, *(INT,) * 3, *(ARRAY,) * 3, takes=_has_rows)
def _logprobs_c(
    native: Function, logits: mx.array, rows: Sequence[int], tokens: mx.array, most: int
) -> Parts:
    indices, token_ids = np.array(rows, np.int32), np.array(tokens, np.int32)
    chosen, scores = empty(len(rows)), empty(len(rows), most)
    ids = np.empty((len(rows), most), np.int32)
    best = (ids, scores) if most else (None, None)
    native(logits, indices, token_ids, len(rows), logits.shape[-1], most, chosen, *best)
    return mx.array(chosen), mx.array(ids), mx.array(scores)


def logprobs_metal(logits: mx.array, rows: Sequence[int], tokens: mx.array, most: int) -> Parts:
    """Run `LOGPROBS` by our kernel, for logits of any floating dtype."""
    picks, most = len(rows), min(most, logits.shape[-1])
    chosen, ids, scores = kernel("logprobs")(
        [
            padded(logits),
            padded(mx.array(list(rows), mx.int32)),
            padded(tokens),
            scalar(logits.shape[-1], mx.int32),
            scalar(most, mx.int32),
        ],
        [
            ((picks,), mx.float32),
            ((picks, max(most, 1)), mx.int32),
            ((picks, max(most, 1)), mx.float32),
        ],
        (THREADS * picks, 1, 1),
        (THREADS, 1, 1),
        T=logits.dtype,
    )
    return chosen, ids[:, :most], scores[:, :most]


def logprobs_mlx(logits: mx.array, rows: Sequence[int], tokens: mx.array, most: int) -> Parts:
    """Run `LOGPROBS` by MLX's operations, which define it."""
    picked = logits[mx.array(list(rows), mx.int32)].astype(mx.float32)
    scores = picked - mx.logsumexp(picked, axis=-1, keepdims=True)
    chosen = mx.take_along_axis(scores, mx.maximum(tokens, 0)[:, None], axis=-1)[:, 0]
    best = mx.argsort(-scores, axis=-1)[:, :most]
    return chosen, best.astype(mx.int32), mx.take_along_axis(scores, best, axis=-1)


def _key(logits: mx.array, rows: Sequence[int], tokens: mx.array, most: int) -> Key:
    return bucket(len(rows)), logits.shape[-1], logits.dtype, most


def _edges(dtype: mx.Dtype) -> Iterator[tuple[mx.array, Sequence[int], mx.array, int]]:
    for size in (7, 8, 1025):
        yield mx.random.normal((2, size)).astype(dtype), [1, 0], mx.array([3, 0]), 5


# Scores, in float32, a token each of some rows of (any, vocabulary) logits, and as many of the
# likeliest as are wanted, at most the vocabulary. A token below 0 counts as 0.
LOGPROBS = Operation(
    "logprobs",
    logprobs_mlx,
    logprobs_mlx,
    _logprobs_c,
    InMetal(
        ("logprobs.metal",),
        logprobs_metal,
        _key,
        _edges,
        takes=_has_rows,
        oracle=in_float32(logprobs_mlx),
        results=lambda parts: (parts[0], parts[2]),  # of equal ones any may come first
    ),
)
