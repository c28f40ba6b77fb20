"""Draw one token a row: temperature, top-k, top-p, min-p, then the inverse of the distribution.

A row's token depends on that row alone. In MLX the rows are therefore grouped by what each needs
(no draw, no truncation, a short list, the whole vocabulary sorted), never by what happens to share
the step. The C kernel sums chances in another order and in float64: where `uniform` or a cut falls
within their last bits, its token is a neighbour of the reference's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import mlx.core as mx
import numpy as np

from .cpu.library import INT, POINTER, Function, address, library, ready

SHORT = 64  # sorting a partition of 64 takes a fourteenth of the time of sorting 152k logits here


@dataclass(frozen=True, slots=True)
class Draws:
    """Settings of each row, all (rows,): see engine.request.Sampling; `uniform` lies in [0, 1)."""

    temperature: np.ndarray
    top_k: np.ndarray
    top_p: np.ndarray
    min_p: np.ndarray
    uniform: np.ndarray

    def take(self, rows: np.ndarray) -> "Draws":
        return Draws(
            self.temperature[rows],
            self.top_k[rows],
            self.top_p[rows],
            self.min_p[rows],
            self.uniform[rows],
        )


def sample(logits: mx.array, draws: Draws, allowed: np.ndarray | None = None) -> mx.array:
    """(rows, vocabulary) float32 logits -> (rows,) int32 token ids.

    allowed: (rows, vocabulary / 32 rounded up) uint32, bit i % 32 of word i / 32 says whether token
    i may be drawn. A row's token is -1 where a logit is NaN, or where none is above -infinity.
    """
    native = _native()
    if native is not None and logits.size:
        return _sample_native(native, ready(logits), draws, allowed)
    if allowed is not None:
        logits = _hide(logits, allowed)
    groups = _group(draws, logits.shape[-1])
    if len(groups) == 1:
        ((method, _),) = groups.items()
        return _checked(logits, method(logits, draws))
    tokens = mx.zeros((logits.shape[0],), dtype=mx.int32)
    for method, rows in groups.items():
        index = mx.array(rows.astype(np.int32))
        tokens[index] = method(logits[index], draws.take(rows))
    return _checked(logits, tokens)


def sample_reference(logits: mx.array, draws: Draws, allowed: np.ndarray | None = None) -> mx.array:
    """The same, every row through one sort of its whole vocabulary."""
    if allowed is not None:
        logits = _hide(logits, allowed)
    drawn = mx.where(
        mx.array(draws.temperature) == 0, _greedy(logits, draws), _draw_sorted(logits, draws)
    )
    return _checked(logits, drawn)


Method = Callable[[mx.array, Draws], mx.array]


def _group(draws: Draws, vocabulary: int) -> dict[Method, np.ndarray]:
    greedy = draws.temperature == 0
    plain = (draws.top_k == 0) & (draws.top_p >= 1) & (draws.min_p <= 0)
    short = (draws.top_k > 0) & (draws.top_k <= SHORT) & (vocabulary > SHORT)
    masks: dict[Method, np.ndarray] = {
        _greedy: greedy,
        _draw_plain: ~greedy & plain,
        _draw_short: ~greedy & short,
        _draw_sorted: ~greedy & ~plain & ~short,
    }
    return {method: np.flatnonzero(mask) for method, mask in masks.items() if mask.any()}


def _greedy(logits: mx.array, draws: Draws) -> mx.array:
    return mx.argmax(logits, axis=-1).astype(mx.int32)


def _draw_plain(logits: mx.array, draws: Draws) -> mx.array:
    return _invert(mx.softmax(_scaled(logits, draws), axis=-1), draws)


def _draw_short(logits: mx.array, draws: Draws) -> mx.array:
    candidates = mx.argpartition(-logits, SHORT, axis=-1)[:, :SHORT]
    candidates = mx.sort(candidates, axis=-1)  # equal logits rank by id, however they came
    return _draw_ranked(mx.take_along_axis(logits, candidates, axis=-1), candidates, draws)


def _draw_sorted(logits: mx.array, draws: Draws) -> mx.array:
    return _draw_ranked(logits, None, draws)


def _draw_ranked(logits: mx.array, ids: mx.array | None, draws: Draws) -> mx.array:
    """Rank the candidates, cut the tail, draw; `ids` names them where they are not 0, 1, 2, ..."""
    order = mx.argsort(-logits, axis=-1)
    scaled = _scaled(mx.take_along_axis(logits, order, axis=-1), draws)
    top_k = np.where(draws.top_k > 0, draws.top_k, logits.shape[-1])
    within = mx.arange(logits.shape[-1])[None] < mx.array(top_k.astype(np.int32))[:, None]
    chances = mx.softmax(mx.where(within, scaled, -mx.inf), axis=-1)
    before = mx.cumsum(chances, axis=-1, inclusive=False)
    keep = (before < _column(draws.top_p)) & (chances >= _column(draws.min_p) * chances[:, :1])
    keep[:, 0] = True
    rank = _invert(mx.where(keep, chances, 0), draws)[:, None]
    token = mx.take_along_axis(order, rank, axis=-1)
    if ids is not None:
        token = mx.take_along_axis(ids, token, axis=-1)
    return token[:, 0].astype(mx.int32)


def _scaled(logits: mx.array, draws: Draws) -> mx.array:
    safe = np.maximum(draws.temperature, 1e-30)  # less would make infinities of logits
    return logits / _column(np.where(draws.temperature > 0, safe, 1))


def _invert(chances: mx.array, draws: Draws) -> mx.array:
    """The first index whose running sum exceeds `uniform` of the total; never one of chance 0."""
    sums = mx.cumsum(chances, axis=-1)
    goal = mx.minimum(_column(draws.uniform) * sums[:, -1:], _below(sums[:, -1:]))
    return mx.sum(sums <= goal, axis=-1).astype(mx.int32)


def _below(total: mx.array) -> mx.array:
    """The next float32 below, so that rounding up cannot run past the last candidate."""
    return (total.view(mx.int32) - 1).view(mx.float32)


def _column(values: np.ndarray) -> mx.array:
    return mx.array(values.astype(np.float32))[:, None]


def _checked(logits: mx.array, tokens: mx.array) -> mx.array:
    broken = mx.any(mx.isnan(logits), axis=-1) | mx.all(logits == -mx.inf, axis=-1)
    return mx.where(broken, -1, tokens)


def _hide(logits: mx.array, allowed: np.ndarray) -> mx.array:
    bits = mx.array(allowed)[:, :, None] >> mx.arange(32, dtype=mx.uint32) & 1
    flat = bits.reshape(bits.shape[0], -1)[:, : logits.shape[-1]]
    return mx.where(flat == 1, logits, -mx.inf)


def _sample_native(
    native: Function, logits: mx.array, draws: Draws, allowed: np.ndarray | None
) -> mx.array:
    settings = (
        np.ascontiguousarray(draws.temperature, np.float32),
        np.ascontiguousarray(draws.top_k, np.int32),
        np.ascontiguousarray(draws.top_p, np.float32),
        np.ascontiguousarray(draws.min_p, np.float32),
        np.ascontiguousarray(draws.uniform, np.float64),
    )
    words = None if allowed is None else np.ascontiguousarray(allowed, np.uint32)
    rows, vocabulary = logits.shape
    assert words is None or words.shape == (rows, (vocabulary + 31) // 32)
    tokens = np.empty(rows, np.int32)
    native(
        address(logits),
        rows,
        vocabulary,
        *(address(setting) for setting in settings),
        None if words is None else address(words),
        address(tokens),
    )
    return mx.array(tokens)


@cache
def _native() -> Function | None:
    found = library()
    types = (POINTER, INT, INT, *(POINTER,) * 7)
    return None if found is None else found.function("op_sample", *types)
