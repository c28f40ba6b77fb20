"""Tests of which weights are joined at load and which stay in parts."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.architectures.layers.linear import Linear, join
from bessemer.kernels.linear.linear import linear
from bessemer.kernels.linear.weight import Dense, Weight
from tests.kernels.arrays import dense, normal, quantized, same

from ..formulas import near, silu, wide
from ..held import held, random_weights


def unbiased(weights: tuple[Weight, ...]) -> Linear:
    return Linear(tuple((weight, None) for weight in weights))


def separately(x: mx.array, weights: list[Weight]) -> mx.array:
    return mx.concatenate([linear(x, weight) for weight in weights], axis=-1)


def test_equal_storage_becomes_one_product() -> None:
    x = normal(3, 128)
    for parts in (
        [dense(8, 128), dense(40, 128)],
        [dense(8, 128, mx.bfloat16), dense(40, 128, mx.bfloat16)],
        [quantized(8, 128, 64, 4), quantized(40, 128, 64, 4), quantized(8, 128, 64, 4)],
    ):
        joined = join(parts)
        assert len(joined) == 1
        assert joined[0].outputs == sum(part.outputs for part in parts)
        assert same(unbiased(joined)(x), separately(x, list(parts)))


def test_unequal_storage_stays_in_parts() -> None:
    x = normal(3, 128)
    for parts in (
        [quantized(8, 128, 64, 4), quantized(40, 128, 64, 5)],
        [quantized(8, 128, 64, 4), quantized(40, 128, 32, 4)],
        [quantized(8, 128, 64, 4), quantized(40, 128, 64, 4, mx.float16)],
        [quantized(8, 128, 64, 4), dense(40, 128)],
        [dense(8, 128), dense(40, 128, mx.float16)],
    ):
        joined = join(parts)
        assert len(joined) == 2
        assert same(unbiased(joined)(x), separately(x, list(parts)))


def test_a_bias_is_added() -> None:
    weight, bias = Dense(mx.zeros((4, 128))), mx.array([1.0, 2.0, 3.0, 4.0])
    out = Linear(((weight, bias),))(normal(2, 128))
    assert np.array(out).tolist() == [[1, 2, 3, 4]] * 2


def test_parts_keep_their_biases_and_their_residual() -> None:
    parts = ((dense(4, 128), normal(4)), (quantized(8, 128, 64, 4), normal(8)))
    x, residual = normal(3, 128), normal(3, 12)
    oracle = separately(x, [weight for weight, _ in parts])
    oracle = oracle + mx.concatenate([bias for _, bias in parts]) + residual
    assert same(Linear(parts)(x, residual), oracle)
    assert same(Linear(parts[:1])(x, residual[:, :4]), oracle[:, :4])


def test_a_gate_joined_and_in_parts() -> None:
    x, gate, up = normal(3, 128), dense(32, 128), dense(32, 128)
    parts = unbiased((gate, up)).gated(x)
    joined = unbiased(join([gate, up])).gated(x)
    assert np.abs(np.array(parts - joined)).max() < 1e-5


@pytest.mark.parametrize("bias", [False, True])
def test_a_gate_and_its_up_projection_in_two_modules_or_one(bias: bool) -> None:
    """silu(gate) * up, wherever the gate is stored."""
    arrays = random_weights(g=(8, 32), g__bias=(8,), u=(8, 32), u__bias=(8,), x=(3, 32))
    gate, up = (wide(arrays["x"]) @ arrays[m].T + bias * arrays[f"{m}.bias"] for m in "gu")
    for order, gate_last in (("gu", False), ("ug", True)):
        joint = {
            f"j{part}": np.concatenate([arrays[f"{m}{part}"] for m in order])
            for part in ("", ".bias")
        }
        loaded = Linear.load_pair(held(joint), ["j"], 8, 32, bias, gate_last)
        assert near(loaded.gated(mx.array(arrays["x"])), silu(gate) * up)
    loaded = Linear.load_pair(held(arrays), ["g", "u"], 8, 32, bias)
    assert near(loaded.gated(mx.array(arrays["x"])), silu(gate) * up)
