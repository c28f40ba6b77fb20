"""The router of a mixture of experts chooses each token's experts and sorts tokens by expert."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import mlx.core as mx
import numpy as np

from ..cpu.library import ARRAY, FLOAT, INT, VALUES, Function, array, empty
from ..linear.linear import linear, linear_reference
from ..linear.linear_mlx import Epilogue
from ..linear.weight import Dense, Weight, storage
from ..linear.weight_metal import FLOATS, as_metal, metal_weight
from ..metal.library import kernel, nothing, scalar
from ..norm.rms_norm import Norm
from ..registry import InMetal, Key, Operation, bucket, in_c, is_filled

SCORINGS = {"softmax": 0, "sigmoid": 1, "sparsemixer": 2}  # as in route.c
IN_METAL = ("softmax", "sigmoid")  # the same numbers in kernels/metal/choice.h

# The Metal kernels' limits and sizes. The fused router reads its weight for each of a few tokens;
# a product over all tokens reads it once.
MAX_FUSED = 16  # tokens
THREADS = 512  # 16 simdgroups, which share the experts' rows
FEWER_THREADS = {2: 256, 3: 256, 5: 256}  # by bits: runs of 32 codes take twice the registers
ROWS = 4  # rows of the router that a simdgroup takes at a time
MAX_EXPERTS, MAX_PICKS, MAX_GROUPS = 512, 16, 32
MAX_PAIRS = 1 << 16  # one threadgroup sorts them by expert

Picks = tuple[mx.array, mx.array]  # (tokens, k): int32 experts, best first, and float32 weights


@dataclass(frozen=True, slots=True)
class Routing:
    """A rule by which logits become `k` experts and their weights.

    With groups, only experts of the `kept_groups` best groups are taken; a group is as good as its
    best expert (DeepSeek-V2) or as its best two together (V3).

    `sparsemixer` (Phi-3.5-MoE, with 0.01 for `jitter`, k 2 and nothing normalised): a pick weighs
    its share of a softmax over the logits that were not picked before it and of which it exceeds
    none by more than 2 * jitter, against the larger of itself and the other one's size. It knows no
    groups and no correction.
    """

    k: int
    scoring: Literal["softmax", "sigmoid", "sparsemixer"] = "softmax"
    normalise: bool = True  # the k weights add up to `scale`
    scale: float = 1.0
    groups: int = 1
    kept_groups: int = 1
    group_score: Literal["best", "best_two"] = "best"
    jitter: float = 0.01  # only `sparsemixer` has it


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """A router's weight: (experts, width). `bias` (experts,) is added to the logits, the
    correction (experts,) for the choice alone.
    """

    weight: Weight
    bias: mx.array | None = None
    correction: mx.array | None = None


def choose_mlx(x: mx.array, gate: Gate, router: Routing, norm: Norm | None = None) -> Picks:
    """Multiply to logits by the product for the device in use, then `route` them."""
    return route(linear(x, gate.weight, Epilogue(gate.bias), norm), router, gate.correction)


def choose_reference(x: mx.array, gate: Gate, router: Routing, norm: Norm | None = None) -> Picks:
    """Compute the definition."""
    logits = linear_reference(x.astype(mx.float32), gate.weight, Epilogue(gate.bias), norm)
    return route_reference(logits, router, gate.correction)


def route(logits: mx.array, router: Routing, correction: mx.array | None = None) -> Picks:
    """Choose (tokens, k) picks from (tokens, experts) float32 logits.

    `correction` (experts,) is added to the scores for the choice alone. Of equal experts the first
    is taken; a NaN among a token's logits makes all its weights NaN.
    """
    experts = logits.shape[1]
    assert experts % router.groups == 0
    assert router.scoring != "sparsemixer" or (router.groups == 1 and correction is None)
    assert router.k <= experts // router.groups * (router.kept_groups if router.groups > 1 else 1)
    return ROUTE(logits, router, correction)


@in_c(
    "op_route",
    *(VALUES, VALUES, *(INT,) * 5, FLOAT, *(INT,) * 3, FLOAT, ARRAY, ARRAY),
    takes=is_filled,
)
def _route_c(
    native: Function, logits: mx.array, router: Routing, correction: mx.array | None = None
) -> Picks:
    (tokens, experts), k = logits.shape, router.k
    rules = (k, SCORINGS[router.scoring], router.normalise, router.scale, router.groups)
    rest = (router.kept_groups, router.group_score == "best_two", router.jitter)
    indices, weights = empty(tokens, k, dtype=np.int32), empty(tokens, k)
    native(logits, correction, tokens, experts, *rules, *rest, indices, weights)
    return array(indices), array(weights)


def route_reference(logits: mx.array, router: Routing, correction: mx.array | None = None) -> Picks:
    """Compute the definition."""
    logits = logits.astype(mx.float32)
    if router.scoring == "sparsemixer":
        indices, weights = _mixed(logits, router)
    else:
        indices, weights = _best(logits, router, correction)
    if router.normalise:
        weights = weights / mx.sum(weights, axis=-1, keepdims=True)
    broken = mx.any(mx.isnan(logits), axis=-1, keepdims=True)
    return indices, mx.where(broken, mx.nan, weights * router.scale)


def _best(logits: mx.array, router: Routing, correction: mx.array | None) -> Picks:
    """Return the k best by score, and their scores."""
    scores = mx.sigmoid(logits) if router.scoring == "sigmoid" else mx.softmax(logits, axis=-1)
    choice = scores if correction is None else scores + correction
    if router.groups > 1:
        choice = _limit(choice, router)
    indices = mx.argsort(-choice, axis=-1)[:, : router.k].astype(mx.int32)
    return indices, mx.take_along_axis(scores, indices, axis=-1)


def _mixed(logits: mx.array, router: Routing) -> Picks:
    """Return the k best, and each one's share among those close to it that are not picked yet."""
    left, order = logits, mx.arange(logits.shape[-1])
    indices, weights = [], []
    for _ in range(router.k):
        pick = mx.argmax(left, axis=-1, keepdims=True)
        best = mx.take_along_axis(left, pick, axis=-1)
        far = (best - logits) / mx.maximum(mx.abs(logits), best) > 2 * router.jitter
        close = mx.where(far, -mx.inf, left)
        indices.append(pick.astype(mx.int32))
        weights.append(mx.take_along_axis(mx.softmax(close, axis=-1), pick, axis=-1))
        left = mx.where(order == pick, -mx.inf, left)
    return mx.concatenate(indices, axis=-1), mx.concatenate(weights, axis=-1)


def sorted_pairs(chosen: mx.array, experts: int, tile: int) -> tuple[mx.array, mx.array, mx.array]:
    """Sort the pairs of token and expert of (tokens, k) on Metal; all results are int32.

    First come the numbers of all pairs by expert, where pair token * k + i is a token's i-th
    expert; an expert's pairs stay in the order of tokens. Then (experts + 1,), where each expert's
    begin. The third result is (1 + 2 * max_tiles,), of tiles of at most `tile` pairs of one expert:
    the number of tiles comes first, then the expert and the first place of each; the rest is
    undefined.
    """
    pairs = chosen.size
    max_tiles = pairs // tile + min(pairs, experts)
    threads = 32 * (16 if experts <= 256 else 8)
    order, offsets, tiles = kernel("moe_sort")(
        [chosen, scalar(pairs, mx.int32), scalar(tile, mx.int32)],
        [((pairs,), mx.int32), ((experts + 1,), mx.int32), ((1 + 2 * max_tiles,), mx.int32)],
        (threads, 1, 1),
        (threads, 1, 1),
        EXPERTS=experts,
    )
    return order, offsets, tiles


def _is_chosen_in_one(x: mx.array, gate: Gate, router: Routing, norm: Norm | None = None) -> bool:
    """Say whether the fused kernel takes so few tokens, this weight and this rule."""
    experts = gate.weight.outputs
    few = 0 < x.shape[0] <= MAX_FUSED and x.dtype in FLOATS and experts >= ROWS
    fits = gate.bias is None and few and takes(experts, router)
    return fits and as_metal(gate.weight) is not None


def choose_metal(x: mx.array, gate: Gate, router: Routing, norm: Norm | None = None) -> Picks:
    """Run `choose` by one kernel."""
    stored, correction = metal_weight(gate.weight), gate.correction
    assert gate.bias is None
    (tokens, hidden), experts = x.shape, gate.weight.outputs
    threads = FEWER_THREADS.get(stored.kind, THREADS)
    indices, weights = kernel("route", "choose")(
        [
            x,
            *stored.arrays,
            x if norm is None else norm.weight,
            scalar(0.0 if norm is None else norm.eps),
            nothing() if correction is None else correction.astype(mx.float32),
            _rules(router, correction is not None),
            scalar(router.scale),
        ],
        [((tokens, router.k), mx.int32), ((tokens, router.k), mx.float32)],
        (threads, tokens, 1),
        (threads, 1, 1),
        T=x.dtype,
        N=x.dtype if norm is None else norm.weight.dtype,
        HIDDEN=hidden,
        EXPERTS=experts,
        NORMED=norm is not None,
        **stored.template,
    )
    return indices, weights


def route_metal(logits: mx.array, router: Routing, correction: mx.array | None = None) -> Picks:
    """Run `route` by our kernel, for what `takes` says yes to."""
    tokens, experts = logits.shape
    indices, weights = kernel("route")(
        [
            logits,
            nothing() if correction is None else correction.astype(mx.float32),
            _rules(router, correction is not None),
            scalar(router.scale),
        ],
        [((tokens, router.k), mx.int32), ((tokens, router.k), mx.float32)],
        (32, tokens, 1),
        (32, 1, 1),
        T=logits.dtype,
        EXPERTS=experts,
    )
    return indices, weights


def takes(experts: int, router: Routing) -> bool:
    """Say whether the kernels take so many experts by this rule."""
    few = experts <= MAX_EXPERTS and router.k <= MAX_PICKS and router.scoring in IN_METAL
    return few and router.groups <= MAX_GROUPS


@lru_cache(maxsize=64)
def _rules(router: Routing, corrected: bool) -> mx.array:
    """Return the rule's numbers in the order of kernels/metal/choice.h, and one to fill up."""
    two = router.group_score == "best_two"
    numbers = (router.k, SCORINGS[router.scoring], router.normalise, router.groups)
    rules = mx.array([*numbers, router.kept_groups, two, corrected, 0], mx.int32)
    mx.eval(rules)
    return rules


def _limit(choice: mx.array, router: Routing) -> mx.array:
    """Set experts of all but the best groups to -infinity."""
    grouped = choice.reshape(choice.shape[0], router.groups, -1)
    ranked = -mx.sort(-grouped, axis=-1)
    best = ranked[:, :, : 2 if router.group_score == "best_two" else 1].sum(axis=-1)
    order = mx.argsort(mx.argsort(-best, axis=-1), axis=-1)
    return mx.where((order < router.kept_groups)[:, :, None], grouped, -mx.inf).reshape(
        choice.shape
    )


def _key(x: mx.array, gate: Gate, router: Routing, norm: Norm | None = None) -> Key:
    parts = "".join(str(int(part is not None)) for part in (gate.correction, norm))
    shape = (bucket(x.shape[0]), gate.weight.outputs, x.shape[1])
    return (*shape, *storage(gate.weight), x.dtype, router.k, parts)


def _edges(dtype: mx.Dtype) -> Iterator[tuple[mx.array, Gate, Routing]]:
    for rows, experts, k in ((1, 7, 2), (3, 8, 1), (2, 33, 4)):
        x = mx.random.normal((rows, 64)).astype(dtype)
        yield x, Gate(Dense(mx.random.normal((experts, 64)).astype(dtype))), Routing(k)


def _is_routed(logits: mx.array, router: Routing, *_: object) -> bool:
    tokens, experts = logits.shape
    return tokens > 0 and takes(experts, router)


def _weights(routed: Picks) -> tuple[mx.array]:
    """Return what is defined: of nearly equal experts either may be taken."""
    return (routed[1],)


def _route_key(logits: mx.array, router: Routing, correction: mx.array | None = None) -> Key:
    return (bucket(logits.shape[0]), logits.shape[1], router.k, correction is not None)


# `route` of the logits that a gate gives x (tokens, width), or norm(x).
choose = Operation(
    "choose",
    choose_mlx,
    choose_reference,
    metal=InMetal(
        ("route.metal",), choose_metal, _key, _edges, takes=_is_chosen_in_one, results=_weights
    ),
)
ROUTE = Operation(
    "route",
    route_reference,
    route_reference,
    _route_c,
    InMetal(
        ("route.metal",),
        route_metal,
        _route_key,
        lambda _: ((mx.random.normal((2, experts)), Routing(2)) for experts in (7, 8, 33)),
        takes=_is_routed,
        results=_weights,
    ),
)
