"""Feed-forward layers against their formulas."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from bessemer.architectures.feed_forward_config import MlpConfig
from bessemer.architectures.layers.mlp import MLP
from bessemer.kernels.norm.rms_norm import Norm

from ..formulas import gelu_tanh, near, rms, silu, wide
from ..held import EPS, HIDDEN, draw, held, model_of, random_weights

WIDTH = 48
X, RESIDUAL = draw("x", (5, HIDDEN)), draw("residual", (5, HIDDEN))
PARTS = random_weights(
    m__gate_proj=(WIDTH, HIDDEN),
    m__up_proj=(WIDTH, HIDDEN),
    m__down_proj=(HIDDEN, WIDTH),
    m__gate_proj__bias=(WIDTH,),
    m__up_proj__bias=(WIDTH,),
    m__down_proj__bias=(HIDDEN,),
)
GATE, UP, DOWN, *BIASES = (wide(part) for part in PARTS.values())


def layer(config: MlpConfig, x: mx.array, arrays: dict[str, np.ndarray] = PARTS) -> mx.array:
    loaded = MLP.load(held(arrays), model_of(None), config, "m")
    return loaded(x, None, mx.array(RESIDUAL))


@pytest.mark.parametrize("bias", [False, True])
def test_gated(bias: bool) -> None:
    gate, up, down = (bias * each for each in BIASES)
    oracle = (silu(X @ GATE.T + gate) * (X @ UP.T + up)) @ DOWN.T + down + RESIDUAL
    assert near(layer(MlpConfig(WIDTH, bias=bias), mx.array(X)), oracle)


@pytest.mark.parametrize("bias", [False, True])
def test_gate_and_up_in_one_module(bias: bool) -> None:
    joint = {name.removeprefix("m."): value for name, value in PARTS.items()}
    pairs = {
        part: [joint[f"{half}_proj{part}"] for half in ("gate", "up")] for part in ("", ".bias")
    }
    arrays = PARTS | {f"m.gate_up_proj{part}": np.concatenate(two) for part, two in pairs.items()}
    for part in ("gate_proj", "up_proj"):
        del arrays[f"m.{part}"]
    config = MlpConfig(WIDTH, bias=bias)
    rows = np.array(layer(config, mx.array(X), arrays))
    assert np.abs(rows - np.array(layer(config, mx.array(X)))).max() < 1e-5


def test_a_norm_comes_first() -> None:
    weight = draw("norm", (HIDDEN,))
    loaded = MLP.load(held(PARTS), model_of(None), MlpConfig(WIDTH), "m")
    normed = rms(wide(X), weight, EPS)
    oracle = (silu(normed @ GATE.T) * (normed @ UP.T)) @ DOWN.T
    assert near(loaded(mx.array(X), Norm(mx.array(weight), EPS), None), oracle)


def test_without_a_gate() -> None:
    config = MlpConfig(WIDTH, "relu2", gated=False, up="up_proj")
    oracle = np.maximum(X @ UP.T, 0) ** 2 @ DOWN.T + RESIDUAL
    assert near(layer(config, mx.array(X)), oracle)


def test_gates_that_are_cut() -> None:
    """Gemma 3n keeps what a gate is above mean + cut * deviation of its token's gates."""
    config = MlpConfig(WIDTH, "gelu_tanh", cut=0.5)
    gate = X @ GATE.T
    limit = gate.mean(axis=1, keepdims=True) + 0.5 * gate.std(axis=1, keepdims=True)
    oracle = (gelu_tanh(np.maximum(gate - limit, 0)) * (X @ UP.T)) @ DOWN.T + RESIDUAL
    assert near(layer(config, mx.array(X)), oracle)


def test_modules_have_the_names_of_the_config() -> None:
    names = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
    arrays = {f"m.{new}": PARTS[f"m.{old}"] for old, new in names.items()}
    config = MlpConfig(WIDTH)
    renamed = replace(config, gate="w1", up="w3", down="w2")
    actual = layer(renamed, mx.array(X), arrays)
    assert (np.array(actual) == np.array(layer(config, mx.array(X)))).all()
