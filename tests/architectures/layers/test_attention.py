"""Attention of a prompt, in both directions too, against the formula, head by head."""

from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.architectures.config import AttentionConfig, Paged, Rope
from bessemer.architectures.layers.attention import Attention, TwoWayAttention

from ..formulas import attend, layer_norm, near, rms, rotate, sigmoid, wide
from ..held import EPS, HIDDEN, draw, held, model_of, prompt, random_weights
from ..steps import stale

ROWS, HEADS, SHARED, DIM = 40, 4, 2, 8  # two pages of tokens
QUERIES, KEYS = HEADS * DIM, SHARED * DIM
ROPE = Rope(DIM, 100.0)
PLAIN = AttentionConfig(HEADS, SHARED, DIM, 0.5, ROPE)
X, RESIDUAL = draw("x", (ROWS, HIDDEN)) * 2, draw("residual", (ROWS, HIDDEN))
ARRAYS = random_weights(
    a__q_proj=(QUERIES, HIDDEN),
    a__k_proj=(KEYS, HIDDEN),
    a__v_proj=(KEYS, HIDDEN),
    a__o_proj=(HIDDEN, QUERIES),
    a__q_proj__bias=(QUERIES,),
    a__k_proj__bias=(KEYS,),
    a__v_proj__bias=(KEYS,),
    a__o_proj__bias=(HIDDEN,),
)
Q, K, V = (
    (wide(X) @ wide(ARRAYS[f"a.{part}_proj"]).T).reshape(ROWS, -1, DIM) for part in ("q", "k", "v")
)
OUT = wide(ARRAYS["a.o_proj"])


def layer(config: AttentionConfig, arrays: dict[str, Any] = ARRAYS) -> mx.array:
    model = model_of(config)
    loaded = Attention.load(held(arrays), model, config, "a")
    cache = stale(Paged(SHARED, DIM, DIM), 4)
    step = prompt(ROWS, *model.ropes)
    return loaded(mx.array(X), None, mx.array(RESIDUAL), step, cache)[0]


def rotated(x: np.ndarray, interleaved: bool = False) -> np.ndarray:
    return rotate(x, ROPE.theta, interleaved)


@pytest.mark.parametrize(
    "changes",
    [{}, {"window": 7}, {"softcap": 1.5}, {"interleaved": True}, {"rope": None}, {"scale": 0.1}],
)
def test_what_a_config_may_say(changes: dict[str, Any]) -> None:
    config = replace(PLAIN, **changes)
    q, k = (each if config.rope is None else rotated(each, config.interleaved) for each in (Q, K))
    oracle = attend(q, k, V, config.scale, config.window, config.softcap) @ OUT.T + RESIDUAL
    assert near(layer(config), oracle)


def test_biases() -> None:
    q, k, v = (
        each + ARRAYS[f"a.{part}_proj.bias"].reshape(-1, DIM)
        for each, part in zip((Q, K, V), "qkv", strict=True)
    )
    oracle = attend(rotated(q), rotated(k), v, 0.5) @ OUT.T + ARRAYS["a.o_proj.bias"] + RESIDUAL
    assert near(layer(replace(PLAIN, bias=True, output_bias=True)), oracle)


def test_projections_in_one_module() -> None:
    arrays = {"a.qkv_proj": np.concatenate([ARRAYS[f"a.{part}_proj"] for part in "qkv"])}
    arrays["a.wo"] = ARRAYS["a.o_proj"]
    assert np.abs(np.array(layer(replace(PLAIN, output="wo"), arrays) - layer(PLAIN))).max() < 1e-5


def test_norms_of_each_head() -> None:
    arrays = ARRAYS | random_weights(a__qn__weight=(DIM,), a__kn__weight=(DIM,))
    q, k = (
        rotated(rms(each, arrays[f"a.{name}.weight"], EPS)) for each, name in ((Q, "qn"), (K, "kn"))
    )
    oracle = attend(q, k, V, 0.5) @ OUT.T + RESIDUAL
    config = replace(PLAIN, qk_norm="head", query_norm="qn", key_norm="kn")
    assert near(layer(config, arrays), oracle)


def test_norms_of_all_heads() -> None:
    arrays = ARRAYS | random_weights(a__q_norm__weight=(QUERIES,), a__k_norm__weight=(KEYS,))
    q, k = (
        rotated(
            rms(each.reshape(ROWS, -1), arrays[f"a.{part}_norm.weight"], EPS).reshape(each.shape)
        )
        for each, part in ((Q, "q"), (K, "k"))
    )
    oracle = attend(q, k, V, 0.5) @ OUT.T + RESIDUAL
    assert near(layer(replace(PLAIN, qk_norm="all"), arrays), oracle)


def test_centred_norms_of_each_head() -> None:
    arrays = ARRAYS | random_weights(
        a__q_norm__weight=(HEADS, DIM), a__k_norm__weight=(SHARED, DIM)
    )
    q, k = (
        rotated(layer_norm(each, arrays[f"a.{part}_norm.weight"], EPS))
        for each, part in ((Q, "q"), (K, "k"))
    )
    oracle = attend(q, k, V, 0.5) @ OUT.T + RESIDUAL
    assert near(layer(replace(PLAIN, qk_norm="centred"), arrays), oracle)


def test_gates() -> None:
    """q_proj has each head's queries, then the same head's gates."""
    gates = draw("gates", (QUERIES, HIDDEN))
    both = [ARRAYS["a.q_proj"].reshape(HEADS, DIM, HIDDEN), gates.reshape(HEADS, DIM, HIDDEN)]
    arrays = ARRAYS | {"a.q_proj": np.stack(both, axis=1).reshape(-1, HIDDEN)}
    attended = attend(rotated(Q), rotated(K), V, 0.5) * sigmoid(wide(X) @ wide(gates).T)
    assert near(layer(replace(PLAIN, gated=True), arrays), attended @ OUT.T + RESIDUAL)


def test_a_temperature_that_grows_with_the_position() -> None:
    """It is Llama 4's: log(floor(position / start) + 1) * factor + 1."""
    config = replace(PLAIN, attention_temperature=0.3, temperature_from=9)
    scales = np.log(np.arange(ROWS) // 9 + 1.0) * 0.3 + 1
    q = rotated(Q * scales[:, None, None])
    assert near(layer(config), attend(q, rotated(K), V, 0.5) @ OUT.T + RESIDUAL)


def test_sinks_take_part_of_the_softmax() -> None:
    """A sink is a score whose value is nothing: one more key that only one head sees."""
    sinks = draw("sinks", (HEADS,))
    q, k = rotated(Q), rotated(K)
    out = attend(q, k, V, 0.5).reshape(ROWS, HEADS, DIM)
    for row in range(ROWS):
        for head in range(HEADS):
            scores = np.exp(k[: row + 1, head // 2] @ q[row, head] * 0.5)
            out[row, head] *= scores.sum() / (scores.sum() + np.exp(sinks[head]))
    arrays = ARRAYS | {"a.sinks": sinks}
    oracle = out.reshape(ROWS, -1) @ OUT.T + RESIDUAL
    assert near(layer(replace(PLAIN, sinks=True), arrays), oracle)


@pytest.mark.parametrize("window", [None, 7])
def test_in_both_directions(window: int | None) -> None:
    """A window of 7 sees 6 tokens before a row and 6 after it."""
    config = replace(PLAIN, window=window)
    model = model_of(config)
    loaded = TwoWayAttention.load(held(ARRAYS), model, config, "a")
    actual, cache = loaded(mx.array(X), None, mx.array(RESIDUAL), prompt(ROWS, ROPE), None)
    q, k = rotated(Q), rotated(K)
    oracle = attend(q, k, V, 0.5, two_way=True)
    if window is not None:
        near_rows = [slice(max(0, row - 6), row + 7) for row in range(ROWS)]
        alone = [
            attend(q[row : row + 1].repeat(len(k[seen]), axis=0), k[seen], V[seen], 0.5)[-1]
            for row, seen in enumerate(near_rows)
        ]
        oracle = np.stack(alone)
    assert cache is None and near(actual, oracle @ OUT.T + RESIDUAL)
