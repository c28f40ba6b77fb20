"""Mamba 2's layer against its recurrence (arXiv 2405.21060, eq. 1), token by token."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from bessemer.architectures.config import SsmConfig
from bessemer.architectures.layers.ssm import Ssm
from bessemer.kernels.recurrent.runs import States

from ..formulas import Array, convolve, near, rms, silu, wide
from ..held import EPS, HIDDEN, draw, held, model_of, prompt, random_weights
from ..steps import stale

ROWS, HEADS, DIM, GROUPS, STATE, WIDTH = 20, 4, 6, 2, 8, 4
CONFIG = SsmConfig(HEADS, DIM, GROUPS, STATE, WIDTH, 0.3, 1.2, GROUPS)
INNER, CHANNELS = CONFIG.inner, CONFIG.channels
X, RESIDUAL = draw("x", (ROWS, HIDDEN)), draw("residual", (ROWS, HIDDEN))
ARRAYS = random_weights(
    s__in_proj=(INNER + CHANNELS + HEADS, HIDDEN),
    s__in_proj__bias=(INNER + CHANNELS + HEADS,),
    s__conv1d__weight=(CHANNELS, 1, WIDTH),
    s__conv1d__bias=(CHANNELS,),
    s__A_log=(HEADS,),
    s__dt_bias=(HEADS,),
    s__D=(HEADS,),
    s__norm__weight=(INNER,),
    s__out_proj=(HIDDEN, INNER),
    s__out_proj__bias=(HIDDEN,),
)


def oracle(config: SsmConfig) -> tuple[Array, Array]:
    """The layer, and the state that it leaves."""
    inputs = wide(X) @ wide(ARRAYS["s.in_proj"]).T + config.bias * ARRAYS["s.in_proj.bias"]
    gate, mixed, steps = np.split(inputs, [INNER, INNER + CHANNELS], axis=1)
    mixed = convolve(mixed, ARRAYS["s.conv1d.weight"][:, 0])
    mixed = silu(mixed + config.conv_bias * ARRAYS["s.conv1d.bias"])
    x, b, c = np.split(mixed, [INNER, INNER + GROUPS * STATE], axis=1)
    x = x.reshape(ROWS, HEADS, DIM)
    b, c = (each.reshape(ROWS, GROUPS, STATE).repeat(HEADS // GROUPS, axis=1) for each in (b, c))
    steps = np.log1p(np.exp(steps + ARRAYS["s.dt_bias"])).clip(config.min_step, config.max_step)
    decay = np.exp(-np.exp(wide(ARRAYS["s.A_log"])) * steps)
    state, y = np.zeros((HEADS, DIM, STATE)), np.zeros((ROWS, HEADS, DIM))
    for row in range(ROWS):
        for head in range(HEADS):
            new = steps[row, head] * np.outer(x[row, head], b[row, head])
            state[head] = decay[row, head] * state[head] + new
            y[row, head] = state[head] @ c[row, head] + ARRAYS["s.D"][head] * x[row, head]
    y = (y.reshape(ROWS, INNER) * silu(gate)).reshape(ROWS, config.norm_groups, -1)
    y = rms(y, ARRAYS["s.norm.weight"].reshape(config.norm_groups, -1), EPS).reshape(ROWS, INNER)
    out = y @ wide(ARRAYS["s.out_proj"]).T + config.bias * ARRAYS["s.out_proj.bias"]
    return out + RESIDUAL, state


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, bias=True),
        replace(CONFIG, conv_bias=False),
        replace(CONFIG, norm_groups=1),
        replace(CONFIG, min_step=0.0, max_step=np.inf),
    ],
)
def test_the_layer_is_its_recurrence(config: SsmConfig) -> None:
    loaded = Ssm.load(held(ARRAYS), model_of(config), config, "s")
    cache = stale(config.cache, 0)
    actual, cache = loaded(mx.array(X), None, mx.array(RESIDUAL), prompt(ROWS), cache)
    out, state = oracle(config)
    assert near(actual, out)
    assert isinstance(cache, States) and near(cache.arrays[1][0], state)
