"""Attention that shares keys and values, of two blocks, against the formula."""

from dataclasses import replace

import mlx.core as mx
import pytest

from bessemer.architectures.config import Paged, Rope, SharingConfig
from bessemer.architectures.layers.sharing_attention import SharingAttention

from ..formulas import Array, attend, near, rms, rotate, wide
from ..held import EPS, HIDDEN, draw, held, model_of, prompt, random_weights
from ..steps import stale

ROWS, HEADS, SHARED, DIM = 35, 4, 2, 8
ROPE = Rope(DIM, 100.0)
ONE = SharingConfig(HEADS, SHARED, DIM, ROPE)
X, Y = draw("x", (ROWS, HIDDEN)), draw("y", (ROWS, HIDDEN))
ARRAYS = random_weights(
    a__q_proj=(HEADS * DIM, HIDDEN),
    a__k_proj=(SHARED * DIM, HIDDEN),
    a__v_proj=(SHARED * DIM, HIDDEN),
    a__o_proj=(HIDDEN, HEADS * DIM),
    a__q_norm__weight=(DIM,),
    a__k_norm__weight=(DIM,),
)
REUSING = {name: ARRAYS[f"a.{name}"] for name in ("q_proj", "o_proj", "q_norm.weight")}


def heads(x: Array, part: str) -> Array:
    return (wide(x) @ wide(ARRAYS[f"a.{part}_proj"]).T).reshape(ROWS, -1, DIM)


def queries(x: Array) -> Array:
    return rotate(rms(heads(x, "q"), ARRAYS["a.q_norm.weight"], EPS), ROPE.theta)


def keys_and_values(x: Array, values: str) -> tuple[Array, Array]:
    keys = rms(heads(x, "k"), ARRAYS["a.k_norm.weight"], EPS)
    return rotate(keys, ROPE.theta), rms(heads(x, values), 1, EPS)


def out(attended: Array) -> Array:
    return attended @ wide(ARRAYS["a.o_proj"]).T


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("values", ["v", "k"])
def test_values_are_normalised_and_scores_not_scaled(values: str, window: int | None) -> None:
    config = replace(ONE, window=window, keys_as_values=values == "k")
    loaded = SharingAttention.load(held(ARRAYS), model_of(config), config, "a")
    cache = stale(Paged(SHARED, DIM, DIM), 4)
    actual, _ = loaded(mx.array(X), None, None, prompt(ROWS, ROPE), cache)
    assert near(actual, out(attend(queries(X), *keys_and_values(X, values), 1.0, window)))


def test_a_later_block_attends_to_an_earlier_ones_keys_and_values() -> None:
    first, second = replace(ONE, source=0, shares_kv=True), replace(ONE, source=0)
    model, arrays = model_of(first, second), {f"b.{n}": value for n, value in REUSING.items()}
    assert model.cache_index == (0, 0) and model.caches == (Paged(SHARED, DIM, DIM), None)
    step, cache = prompt(ROWS, ROPE), stale(Paged(SHARED, DIM, DIM), 4)
    source = SharingAttention.load(held(ARRAYS), model, first, "a")
    reusing = SharingAttention.load(held(arrays), model, second, "b")
    _, cache = source(mx.array(X), None, None, step, cache)
    actual, _ = reusing(mx.array(Y), None, mx.array(X), step, cache)
    assert near(actual, out(attend(queries(Y), *keys_and_values(X, "v"), 1.0)) + X)
