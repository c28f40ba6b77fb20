"""Norms against their formulas, and how a checkpoint's weights are taken."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.architectures.config import NormConfig
from bessemer.architectures.layers.norm import HeadNorms, fused, load, resolved
from bessemer.kernels.norm.rms_norm import Norm

from ..formulas import layer_norm, near, rms, wide
from ..held import HIDDEN, draw, held, random_weights

EPS = 0.1
X = draw("x", (5, HIDDEN)) + 1
PLAIN = random_weights(n__weight=(HIDDEN,), n__bias=(HIDDEN,))


def test_root_mean_square() -> None:
    norm = load(held(PLAIN), "n", HIDDEN, NormConfig(EPS))
    assert near(norm(mx.array(X)), rms(wide(X), PLAIN["n.weight"], EPS))


@pytest.mark.parametrize("bias", [False, True])
def test_layer_norm(bias: bool) -> None:
    norm = load(held(PLAIN), "n", HIDDEN, NormConfig(EPS, "layer", bias=bias))
    oracle = layer_norm(wide(X), PLAIN["n.weight"], EPS) + bias * wide(PLAIN["n.bias"])
    assert near(norm(mx.array(X)), oracle)


def test_zero_centred_weights_are_stored_less_1() -> None:
    norm = load(held(PLAIN), "n", HIDDEN, NormConfig(EPS, zero_centred=True))
    assert near(norm(mx.array(X)), rms(wide(X), 1 + PLAIN["n.weight"], EPS))


def test_a_norm_without_weight() -> None:
    norm = load(held({}), "n", HIDDEN, NormConfig(EPS, weight=False))
    assert near(norm(mx.array(X)), rms(wide(X), 1, EPS))


@pytest.mark.parametrize(("shape", "zero_centred"), [((8, 1, 4), True), ((8, 4, 1), False)])
def test_the_layout_of_a_convolution_tells_of_a_conversion(
    shape: tuple[int, ...], zero_centred: bool
) -> None:
    """MLX's conversion has transposed it, and added the 1 to norms."""
    config = NormConfig(EPS, zero_centred=True, conversion_mark="conv.weight")
    assert resolved(held({"conv.weight": draw("c", shape)}), config).zero_centred == zero_centred
    plain = NormConfig(EPS, zero_centred=True)
    assert resolved(held({}), plain) == plain


def test_each_head_by_itself() -> None:
    weight = draw("w", (4, 8))
    oracle = layer_norm(wide(X).reshape(5, 4, 8), weight, EPS).reshape(5, HIDDEN)
    assert near(HeadNorms(mx.array(weight), EPS)(mx.array(X)), oracle)


def test_only_root_mean_square_norms_go_with_the_next_operation() -> None:
    x = mx.array(X)
    root = load(held(PLAIN), "n", HIDDEN, NormConfig(EPS))
    assert isinstance(root, Norm) and fused(x, root) == (x, root) and fused(x, None) == (x, None)
    y, left = fused(x, load(held(PLAIN), "n", HIDDEN, NormConfig(EPS, "layer")))
    assert left is None and np.abs(np.array(y - x)).max() > 0.1
