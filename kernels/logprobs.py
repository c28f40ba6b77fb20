"""Log probabilities out of logits: of one token a row, and of the likeliest."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import mlx.core as mx
import numpy as np

from .cpu.library import INT, POINTER, Function, address, empty, library, ready


@dataclass(frozen=True, slots=True)
class Logprobs:
    """own: (rows,) float32; ids, scores: (rows, most), likeliest first, equal ones by id."""

    own: np.ndarray
    ids: np.ndarray
    scores: np.ndarray


def logprobs(logits: mx.array, rows: Sequence[int], tokens: Sequence[int], most: int) -> Logprobs:
    """Of the given rows of (any, vocabulary) float32 logits, a token each; below 0 counts as 0."""
    native = _native()
    most = min(most, logits.shape[-1])
    if native is None or not len(rows):
        return logprobs_reference(logits, rows, tokens, most)
    logits = ready(logits)
    picked, chosen = np.array(rows, np.int32), np.array(tokens, np.int32)
    own, scores = empty(len(rows)), empty(len(rows), most)
    ids = np.empty((len(rows), most), np.int32)
    native(
        address(logits),
        address(picked),
        address(chosen),
        len(rows),
        logits.shape[-1],
        most,
        address(own),
        *((address(ids), address(scores)) if most else (None, None)),
    )
    return Logprobs(own, ids, scores)


def logprobs_reference(
    logits: mx.array, rows: Sequence[int], tokens: Sequence[int], most: int
) -> Logprobs:
    """The definition."""
    picked = logits[mx.array(list(rows), mx.int32)]
    scores = picked - mx.logsumexp(picked, axis=-1, keepdims=True)
    chosen = mx.maximum(mx.array(list(tokens), mx.int32), 0)[:, None]
    own = mx.take_along_axis(scores, chosen, axis=-1)[:, 0]
    best = mx.argsort(-scores, axis=-1)[:, :most]
    return Logprobs(
        np.array(own),
        np.array(best.astype(mx.int32)),
        np.array(mx.take_along_axis(scores, best, axis=-1)),
    )


@cache
def _native() -> Function | None:
    found = library()
    types = (POINTER, POINTER, POINTER, INT, INT, INT, POINTER, POINTER, POINTER)
    return None if found is None else found.function("op_logprobs", *types)
