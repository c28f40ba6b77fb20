"""The router of a mixture of experts: who takes a token, and each expert's tokens side by side."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import mlx.core as mx
import numpy as np

from .cpu.library import FLOAT, INT, POINTER, Function, address, empty, library, ready
from .cpu.library import optional as optional_address
from .linear import linear, linear_reference
from .rms_norm import Norm
from .weight import Weight

SCORINGS = {"softmax": 0, "sigmoid": 1}  # as in route.c


@dataclass(frozen=True, slots=True)
class Router:
    """How logits become `k` experts and their weights.

    With groups, only experts of the `kept_groups` best groups are taken; a group is as good as its
    best expert (DeepSeek-V2) or as its best two together (V3).
    """

    k: int
    scoring: Literal["softmax", "sigmoid"] = "softmax"
    normalise: bool = True  # the k weights add up to `scale`
    scale: float = 1.0
    groups: int = 1
    kept_groups: int = 1
    group_score: Literal["best", "best_two"] = "best"


def choose(
    x: mx.array,
    weight: Weight,
    router: Router,
    correction: mx.array | None = None,
    norm: Norm | None = None,
) -> tuple[mx.array, mx.array]:
    """`route` of the logits that a router's weight (experts, width) gives x (tokens, width)."""
    return route(linear(x, weight, norm=norm), router, correction)


def choose_reference(
    x: mx.array,
    weight: Weight,
    router: Router,
    correction: mx.array | None = None,
    norm: Norm | None = None,
) -> tuple[mx.array, mx.array]:
    """The definition."""
    logits = linear_reference(x.astype(mx.float32), weight, norm=norm)
    return route_reference(logits, router, correction)


def route(
    logits: mx.array, router: Router, correction: mx.array | None = None
) -> tuple[mx.array, mx.array]:
    """(tokens, experts) float32 to (tokens, k) int32 experts, best first, and float32 weights.

    `correction` (experts,) is added to the scores for the choice alone. Of equal experts the first
    is taken; a NaN among a token's logits makes all its weights NaN.
    """
    native = _route_native()
    tokens, experts = logits.shape
    assert experts % router.groups == 0
    assert router.k <= experts // router.groups * (router.kept_groups if router.groups > 1 else 1)
    if native is None or not tokens:
        return route_reference(logits, router, correction)
    logits = ready(logits)
    correction = None if correction is None else ready(correction)
    indices, weights = np.empty((tokens, router.k), np.int32), empty(tokens, router.k)
    native(
        address(logits),
        optional_address(correction),
        tokens,
        experts,
        router.k,
        SCORINGS[router.scoring],
        router.normalise,
        router.scale,
        router.groups,
        router.kept_groups,
        router.group_score == "best_two",
        address(indices),
        address(weights),
    )
    return mx.array(indices), mx.array(weights)


def route_reference(
    logits: mx.array, router: Router, correction: mx.array | None = None
) -> tuple[mx.array, mx.array]:
    """The definition."""
    logits = logits.astype(mx.float32)
    scores = mx.sigmoid(logits) if router.scoring == "sigmoid" else mx.softmax(logits, axis=-1)
    choice = scores if correction is None else scores + correction
    if router.groups > 1:
        choice = _limit(choice, router)
    indices = mx.argsort(-choice, axis=-1)[:, : router.k].astype(mx.int32)
    weights = mx.take_along_axis(scores, indices, axis=-1)
    if router.normalise:
        weights = weights / mx.sum(weights, axis=-1, keepdims=True)
    broken = mx.any(mx.isnan(logits), axis=-1, keepdims=True)
    return indices, mx.where(broken, mx.nan, weights * router.scale)


def sort_by_expert(indices: mx.array, experts: int) -> tuple[mx.array, mx.array]:
    """(tokens, k) to the numbers of all (token, expert) pairs by expert, and where each begins.

    Pair token * k + i is a token's i-th expert; an expert's pairs stay in the order of tokens. The
    second result is (experts + 1,); both are int32.
    """
    native = _sort_native()
    if native is None or not indices.size:
        return sort_by_expert_reference(indices, experts)
    found = np.ascontiguousarray(indices, np.int32)
    order, offsets = np.empty(found.size, np.int32), np.empty(experts + 1, np.int32)
    native(address(found), found.size, experts, address(order), address(offsets))
    return mx.array(order), mx.array(offsets)


def sort_by_expert_reference(indices: mx.array, experts: int) -> tuple[mx.array, mx.array]:
    """The definition: a key that holds expert and place makes any sort a stable one."""
    flat = indices.reshape(-1).astype(mx.int32)
    order = mx.argsort(flat * max(1, flat.size) + mx.arange(flat.size, dtype=mx.int32))
    counts = mx.zeros((experts + 1,), mx.int32).at[flat + 1].add(1)
    return order.astype(mx.int32), mx.cumsum(counts).astype(mx.int32)


def _limit(choice: mx.array, router: Router) -> mx.array:
    """-infinity for experts of all but the best groups."""
    grouped = choice.reshape(choice.shape[0], router.groups, -1)
    ranked = -mx.sort(-grouped, axis=-1)
    best = ranked[:, :, : 2 if router.group_score == "best_two" else 1].sum(axis=-1)
    order = mx.argsort(mx.argsort(-best, axis=-1), axis=-1)
    return mx.where((order < router.kept_groups)[:, :, None], grouped, -mx.inf).reshape(
        choice.shape
    )


@cache
def _route_native() -> Function | None:
    found = library()
    types = (POINTER, POINTER, *(INT,) * 5, FLOAT, *(INT,) * 3, POINTER, POINTER)
    return None if found is None else found.function("op_route", *types)


@cache
def _sort_native() -> Function | None:
    found = library()
    types = (POINTER, INT, INT, POINTER, POINTER)
    return None if found is None else found.function("op_sort_by_expert", *types)
