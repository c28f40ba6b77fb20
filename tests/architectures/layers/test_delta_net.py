"""The gated delta net against its recurrence (arXiv 2412.06464, eq. 10), token by token."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.architectures.config import DeltaConfig
from bessemer.architectures.layers.delta_net import DeltaNet
from bessemer.kernels.recurrent.runs import States

from ..formulas import Array, convolve, near, rms, sigmoid, silu, wide
from ..held import EPS, HIDDEN, draw, held, model_of, prompt, random_weights
from ..steps import stale

ROWS, KEYS, HEADS, KEY, VALUE, WIDTH = 20, 2, 4, 8, 6, 4
CONFIG = DeltaConfig(KEYS, HEADS, KEY, VALUE, WIDTH)
CHANNELS, VALUES = CONFIG.channels, HEADS * VALUE
X, RESIDUAL = draw("x", (ROWS, HIDDEN)), draw("residual", (ROWS, HIDDEN))
ARRAYS = random_weights(
    d__in_proj_qkv=(CHANNELS, HIDDEN),
    d__in_proj_z=(VALUES, HIDDEN),
    d__in_proj_b=(HEADS, HIDDEN),
    d__in_proj_a=(HEADS, HIDDEN),
    d__conv1d__weight=(CHANNELS, 1, WIDTH),
    d__A_log=(HEADS,),
    d__dt_bias=(HEADS,),
    d__norm__weight=(VALUE,),
    d__out_proj=(HIDDEN, VALUES),
)


def part(name: str) -> Array:
    return wide(X) @ wide(ARRAYS[f"d.in_proj_{name}"]).T


def unit(x: Array) -> Array:
    return x / np.sqrt((x * x).sum(axis=-1, keepdims=True) + 1e-6)


def oracle() -> tuple[Array, Array]:
    """The layer, and the state that it leaves."""
    mixed = silu(convolve(part("qkv"), ARRAYS["d.conv1d.weight"][:, 0]))
    q, k, v = np.split(mixed, [KEYS * KEY, 2 * KEYS * KEY], axis=1)
    q, k = (unit(each.reshape(ROWS, KEYS, KEY)).repeat(HEADS // KEYS, axis=1) for each in (q, k))
    v, z = v.reshape(ROWS, HEADS, VALUE), part("z").reshape(ROWS, HEADS, VALUE)
    steps = np.log1p(np.exp(part("a") + ARRAYS["d.dt_bias"]))
    decay, beta = np.exp(-np.exp(wide(ARRAYS["d.A_log"])) * steps), sigmoid(part("b"))
    state, y = np.zeros((HEADS, KEY, VALUE)), np.zeros((ROWS, HEADS, VALUE))
    for row in range(ROWS):
        for head in range(HEADS):
            state[head] *= decay[row, head]
            error = v[row, head] - k[row, head] @ state[head]
            state[head] += beta[row, head] * np.outer(k[row, head], error)
            y[row, head] = q[row, head] * KEY**-0.5 @ state[head]
    y = rms(y, ARRAYS["d.norm.weight"], EPS) * silu(z)
    return y.reshape(ROWS, -1) @ wide(ARRAYS["d.out_proj"]).T + RESIDUAL, state


def by_key_head(parts: list[Array]) -> Array:
    """Return Qwen3-Next's order: each head of keys, with all that belongs to it."""
    return np.concatenate([each.reshape(KEYS, -1, HIDDEN) for each in parts], axis=1)


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("layout", [(CHANNELS, 1, WIDTH), (CHANNELS, WIDTH, 1)])
def test_the_layer_is_its_recurrence(joint: bool, layout: tuple[int, ...]) -> None:
    arrays = dict(ARRAYS)
    if joint:
        qkv, z, b, a = (arrays.pop(f"d.in_proj_{name}") for name in ("qkv", "z", "b", "a"))
        q, k, v = np.split(qkv, [KEYS * KEY, 2 * KEYS * KEY])
        arrays["d.in_proj_qkvz"] = by_key_head([q, k, v, z]).reshape(-1, HIDDEN)
        arrays["d.in_proj_ba"] = by_key_head([b, a]).reshape(-1, HIDDEN)
    arrays["d.conv1d.weight"] = arrays["d.conv1d.weight"].reshape(layout)
    loaded = DeltaNet.load(held(arrays), model_of(CONFIG), CONFIG, "d")
    cache = stale(CONFIG.cache, 0)
    actual, cache = loaded(mx.array(X), None, mx.array(RESIDUAL), prompt(ROWS), cache)
    out, state = oracle()
    assert near(actual, out)
    assert isinstance(cache, States) and near(cache.arrays[1][0], state)
    assert near(cache.arrays[0][0], part("qkv")[1 - WIDTH :])
