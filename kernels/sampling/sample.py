"""Draw one token a row: temperature, top-k, top-p, min-p, then the inverse of the distribution.

A row's token depends on that row alone. In MLX the rows are therefore grouped by what each needs
(no draw, no truncation, a short list, the whole vocabulary sorted), never by what happens to share
the step. The C kernel sums chances in another order and in float64: where `uniform` or a cut falls
within their last bits, its token is a neighbour of the reference's. The Metal kernel sums them as
whole numbers, exactly, with the same effect.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import mlx.core as mx
import numpy as np

from ..cpu.library import ARRAY, INT, VALUES, Function
from ..metal.library import kernel, nothing, padded, scalar
from ..registry import InMetal, Key, Operation, bucket, in_c, is_filled
from .edit import Edits, EditTable, edit, edit_reference
from .logprobs import LOGPROBS, Parts

SHORT = 64  # sorting a partition of 64 takes a fourteenth of the time of sorting 152k logits here

# As in sample.metal.
THREADS = 512
MAX_VOCABULARY = 262_144
GREEDY, PLAIN, RANKED = 0, 1, 2
FRACTION = 2.0**32
NO_CUT = 2**32 - 1
DTYPES = (np.float32, np.int32, np.float32, np.float32, np.float64)  # Draws' columns in sample.c
HALVINGS = math.log2(math.e)  # a chance's halvings for each unit that a logit is less


@dataclass(frozen=True, slots=True)
class Draws:
    """Settings a row, all (rows,): see engine.request.Sampling; `uniform` lies in [0, 1)."""

    temperature: np.ndarray
    top_k: np.ndarray
    top_p: np.ndarray
    min_p: np.ndarray
    uniform: np.ndarray

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """The settings, in the order of the fields."""
        return self.temperature, self.top_k, self.top_p, self.min_p, self.uniform

    def take(self, rows: np.ndarray) -> "Draws":
        return Draws(*(column[rows] for column in self.columns))


def draw(
    logits: mx.array,
    edits: Edits | None,
    draws: Draws,
    allowed: np.ndarray | None,
    scored: Sequence[int],
    most: int,
) -> tuple[mx.array, Parts | None]:
    """Run `sample`, and `LOGPROBS` of the rows in `scored` on the logits before the edits."""
    drawn = sample(logits, draws, allowed, edits)
    if not len(scored):
        return drawn, None
    most = min(most, logits.shape[-1])
    return drawn, LOGPROBS(logits, scored, drawn[mx.array(list(scored), mx.int32)], most)


def sample_mlx(
    logits: mx.array, draws: Draws, allowed: np.ndarray | None = None, edits: Edits | None = None
) -> mx.array:
    """Run `sample` by MLX's operations."""
    logits = _masked(logits, allowed, edits)
    groups = _group(draws, logits.shape[-1])
    if len(groups) == 1:
        ((method, _),) = groups.items()
        return _checked(logits, method(logits, draws))
    tokens = mx.zeros((logits.shape[0],), dtype=mx.int32)
    for method, rows in groups.items():
        index = mx.array(rows.astype(np.int32))
        tokens[index] = method(logits[index], draws.take(rows))
    return _checked(logits, tokens)


def sample_reference(
    logits: mx.array, draws: Draws, allowed: np.ndarray | None = None, edits: Edits | None = None
) -> mx.array:
    """Compute the definition: every row goes through one sort of its whole vocabulary."""
    logits = _masked(logits, allowed, edits)
    drawn = mx.where(
        mx.array(draws.temperature) == 0, _greedy(logits, draws), _draw_sorted(logits, draws)
    )
    return _checked(logits, drawn)


def sample_metal(
    logits: mx.array, draws: Draws, allowed: np.ndarray | None = None, edits: Edits | None = None
) -> mx.array:
    """Run `sample` by our kernel, on any floating dtype; MLX takes larger vocabularies."""
    rows, size = logits.shape
    if size > MAX_VOCABULARY:
        return sample_mlx(logits, draws, allowed, edits)
    assert allowed is None or allowed.shape == (rows, (size + 31) // 32)
    if not rows:
        return mx.zeros((0,), mx.int32)
    settings, ids, changes = _settings(draws, edits, rows, size)
    mask = settings if allowed is None else padded(mx.array(allowed.astype(np.uint32)))
    (tokens,) = kernel("sample")(
        [padded(logits), settings, ids, changes, mask, scalar(size, mx.int32)],
        [((rows,), mx.int32)],
        (THREADS * rows, 1, 1),
        (THREADS, 1, 1),
        T=logits.dtype,
        EDITED=edits is not None,
        MASKED=allowed is not None,
    )
    return tokens


def _settings(
    draws: Draws, edits: Edits | None, rows: int, size: int
) -> tuple[mx.array, mx.array, mx.array]:
    """Return ten uint32 a row, as sample.metal reads them, and the edits' ids and changes."""
    ids, changes, bounds = _by_row(edits, rows, size)
    each = zip(*(column.tolist() for column in draws.columns), strict=True)
    numbers = [
        (
            *_cuts(temperature, top_k, top_p, min_p, size),
            int(uniform * FRACTION),
            *bounds[i],
        )
        for i, (temperature, top_k, top_p, min_p, uniform) in enumerate(each)
    ]
    return mx.array(np.array(numbers, np.uint32)), ids, changes


@lru_cache(maxsize=1024)
def _cuts(
    temperature: float, top_k: int, top_p: float, min_p: float, size: int
) -> tuple[int, int, int, int, int]:
    """Return the mode, halvings to a unit of a logit, and the cuts; floats as their bits."""
    plain = top_k <= 0 and top_p >= 1 and min_p <= 0
    divisor = min(max(temperature, 1e-37), 1e37)  # what it divides may be 0 and must stay it
    cut = float(np.float32(top_p))  # as the reference sees it
    return (
        GREEDY if temperature <= 0 else PLAIN if plain else RANKED,
        int(np.float32(HALVINGS / divisor).view(np.uint32)),
        max(top_k, 0) if top_k < size else 0,
        int(max(cut, 0) * FRACTION) if cut < 1 else NO_CUT,
        int(np.float32(min_p).view(np.uint32)),
    )


def _by_row(
    edits: Edits | None, rows: int, size: int
) -> tuple[mx.array, mx.array, list[list[int]]]:
    """Return the edits' ids and changes, table by table, and each row's bounds of its two tables.

    A table that lasts is there already, and is there once for all rows that it belongs to.
    """
    bounds = [[0, 0, 0, 0] for _ in range(rows)]
    parts: list[tuple[mx.array, mx.array]] = []
    starts: dict[int, int] = {}
    end = 0
    for kind, tables in enumerate((edits.lasting, edits.latest) if edits else ()):
        for row, table in tables.items():
            if not 0 <= row < rows:
                continue
            if id(table) not in starts:
                starts[id(table)], end = end, end + len(table)
                parts.append(table.arrays if kind == 0 else table.copy().arrays)
            start, inside = starts[id(table)], table.inside(size)
            bounds[row][2 * kind : 2 * kind + 2] = start + inside.start, start + inside.stop
    if not end:
        return nothing(mx.int32), nothing(mx.float32), bounds
    ids, changes = zip(*parts, strict=True)
    return padded(mx.concatenate([*ids])), padded(mx.concatenate([*changes])), bounds


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
    """Rank the candidates, cut the tail and draw; `ids` are theirs if they are not 0, 1, 2, ..."""
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
    """Return how far below the peak each logit is, scaled: the peak's own 0 is never infinite."""
    safe = np.maximum(draws.temperature, 1e-30)  # less would make infinities of logits
    peak = mx.max(logits, axis=-1, keepdims=True)
    return (logits - peak) / _column(np.where(draws.temperature > 0, safe, 1))


def _invert(chances: mx.array, draws: Draws) -> mx.array:
    """Find the first index whose running sum exceeds `uniform` of the total, no chance being 0."""
    sums = mx.cumsum(chances, axis=-1)
    goal = mx.minimum(_column(draws.uniform) * sums[:, -1:], _below(sums[:, -1:]))
    return mx.sum(sums <= goal, axis=-1).astype(mx.int32)


def _below(total: mx.array) -> mx.array:
    """Return the next float32 below, so that rounding up cannot pass the last candidate."""
    return (total.view(mx.int32) - 1).view(mx.float32)


def _column(values: np.ndarray) -> mx.array:
    return mx.array(values.astype(np.float32))[:, None]


def _checked(logits: mx.array, tokens: mx.array) -> mx.array:
    """Return the tokens, -1 for a broken row; of infinite logits the first is certain."""
    broken = mx.any(mx.isnan(logits), axis=-1) | mx.all(logits == -mx.inf, axis=-1)
    endless = mx.any(logits == mx.inf, axis=-1)
    return mx.where(broken, -1, mx.where(endless, mx.argmax(logits, axis=-1), tokens))


def _masked(logits: mx.array, allowed: np.ndarray | None, edits: Edits | None) -> mx.array:
    """Return the logits in float32, edited, without what may not be drawn."""
    logits = logits.astype(mx.float32)
    logits = logits if edits is None else edit_reference(logits, edits)
    return logits if allowed is None else _hide(logits, allowed)


def _hide(logits: mx.array, allowed: np.ndarray) -> mx.array:
    bits = mx.array(allowed)[:, :, None] >> mx.arange(32, dtype=mx.uint32) & 1
    flat = bits.reshape(bits.shape[0], -1)[:, : logits.shape[-1]]
    return mx.where(flat == 1, logits, -mx.inf)


@in_c("op_sample", VALUES, INT, INT, *(ARRAY,) * 7, takes=is_filled)
def _sample_c(
    native: Function,
    logits: mx.array,
    draws: Draws,
    allowed: np.ndarray | None = None,
    edits: Edits | None = None,
) -> mx.array:
    logits = logits if edits is None else edit(logits, edits)
    settings = map(np.ascontiguousarray, draws.columns, DTYPES)
    mask = None if allowed is None else np.ascontiguousarray(allowed, np.uint32)
    rows, vocabulary = logits.shape
    assert mask is None or mask.shape == (rows, (vocabulary + 31) // 32)
    tokens = np.empty(rows, np.int32)
    native(logits, rows, vocabulary, *settings, mask, tokens)
    return mx.array(tokens)


def _key(
    logits: mx.array, draws: Draws, allowed: np.ndarray | None = None, edits: Edits | None = None
) -> Key:
    parts = (allowed is not None, edits is not None, bool((draws.temperature > 0).any()))
    return (bucket(logits.shape[0]), logits.shape[1], logits.dtype, *parts)


def _edges(dtype: mx.Dtype) -> Iterator[tuple[mx.array, Draws, np.ndarray | None, Edits | None]]:
    """Cases are greedy, plain and cut rows, a bias and a mask, few tokens and many."""
    rows = ([0, 1, 0.7], [0, 0, 5], [1, 1, 0.9], [0, 0, 0], [0.4, 0.4, 0.4])
    draws = Draws(*map(np.array, rows))
    bias = EditTable(np.array([2]), np.array([[9.0, 1.0, 0.0]]))
    edits = Edits({0: bias})
    for size in (7, 8, 1025):
        logits = mx.random.normal((3, size)).astype(dtype)
        yield logits, draws, None, None
        yield logits, draws, np.full((3, -(-size // 32)), 0x55555555, np.uint32), edits


# (rows, vocabulary) logits, edited -> (rows,) int32 token ids. allowed: (rows, vocabulary /
# 32 rounded up) uint32, bit i % 32 of word i / 32 says whether token i may be drawn. A row's token
# is -1 where a logit is NaN, or where none is above -infinity.
sample = Operation(
    "sample",
    sample_mlx,
    sample_reference,
    _sample_c,
    InMetal(
        ("sample.metal",),
        sample_metal,
        _key,
        _edges,
        takes=lambda logits, *_, **__: logits.shape[0],
        oracle=sample_mlx,
    ),
)
