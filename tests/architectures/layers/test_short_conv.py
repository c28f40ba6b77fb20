"""LFM2's short convolution against its formula: C * conv(B * x)."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.architectures.config import ConvConfig
from bessemer.architectures.layers.short_conv import ShortConv
from bessemer.kernels.recurrent.runs import States

from ..formulas import convolve, near, wide
from ..held import HIDDEN, draw, held, model_of, prompt, random_weights
from ..steps import stale

ROWS, CHANNELS, WIDTH = 9, 24, 3
X, RESIDUAL = draw("x", (ROWS, HIDDEN)), draw("residual", (ROWS, HIDDEN))
ARRAYS = random_weights(
    c__in_proj=(3 * CHANNELS, HIDDEN),
    c__in_proj__bias=(3 * CHANNELS,),
    c__conv__weight=(CHANNELS, 1, WIDTH),
    c__conv__bias=(CHANNELS,),
    c__out_proj=(HIDDEN, CHANNELS),
    c__out_proj__bias=(HIDDEN,),
)


@pytest.mark.parametrize("bias", [False, True])
def test_the_layer_is_its_formula(bias: bool) -> None:
    config = ConvConfig(CHANNELS, WIDTH, bias)
    loaded = ShortConv.load(held(ARRAYS), model_of(config), config, "c")
    actual, cache = loaded(
        mx.array(X), None, mx.array(RESIDUAL), prompt(ROWS), stale(config.cache, 0)
    )
    inputs = wide(X) @ wide(ARRAYS["c.in_proj"]).T + bias * ARRAYS["c.in_proj.bias"]
    b, c, x = np.split(inputs, 3, axis=1)
    y = c * (convolve(b * x, ARRAYS["c.conv.weight"][:, 0]) + bias * ARRAYS["c.conv.bias"])
    oracle = y @ wide(ARRAYS["c.out_proj"]).T + bias * ARRAYS["c.out_proj.bias"] + RESIDUAL
    assert near(actual, oracle)
    assert isinstance(cache, States) and near(cache.arrays[0][0], (b * x)[1 - WIDTH :])
