"""Linear layers of heads on every path against the definition, packed and not, row by row."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.linear.weight import Dense, Packed, Quantized, Weight
from bessemer.kernels.moe.moe import pack_experts

from ..arrays import close, dense, every_storage, normal, same
from ..tiers import loaded
from .by_heads import head_linear, head_linear_reference

EXACT, FAST = 2e-5, 1.5e-2  # against the largest value; relative error of the whole


def exact(weight: Weight) -> Weight:
    return replace(weight, exact=True) if isinstance(weight, Quantized) else weight


@pytest.mark.parametrize(("rows", "heads", "outputs", "rest"), [(1, 4, 48, 0), (13, 3, 7, 5)])
def test_every_storage(path: str | None, rows: int, heads: int, outputs: int, rest: int) -> None:
    x = normal(rows, heads, 128 + rest)
    for weight in map(exact, every_storage(heads * outputs, 128)):
        out = head_linear(x, weight, rest)
        assert out.shape == (rows, heads, outputs + rest)
        assert close(out, head_linear_reference(x, weight, rest), EXACT)
        passed = mx.contiguous(out[..., outputs:])
        assert not rest or same(passed, mx.contiguous(x[..., 128:]))


@pytest.mark.parametrize("rows", [1, 37, 200])
def test_any_number_of_rows(path: str | None, rows: int) -> None:
    for heads, outputs, inputs in ((1, 33, 30), (5, 40, 64), (2, 16, 1)):
        x, weight = normal(rows, heads, inputs + 3), dense(heads * outputs, inputs)
        assert close(head_linear(x, weight, 3), head_linear_reference(x, weight, 3), EXACT)


def test_rounded_activations_stay_close(native: str) -> None:
    for weight in every_storage(4 * 48, 128)[3:]:
        x = normal(30, 4, 128)
        oracle = head_linear_reference(x, weight)
        error = mx.sqrt(mx.mean((head_linear(x, weight) - oracle) ** 2) / mx.mean(oracle**2))
        assert 1e-4 < float(error) < FAST


@pytest.mark.parametrize("outputs", [48, 40, 35])  # whole panels of 16 lanes, of 8, of none
def test_packed_is_the_same_to_the_last_bit(native: str, outputs: int) -> None:
    for weight, again in zip(
        every_storage(4 * outputs, 128), every_storage(4 * outputs, 128), strict=True
    ):
        packed = pack_experts(again, 4)
        assert isinstance(packed, Packed) == (outputs % loaded(native).lanes == 0)
        for rows in (1, 50):
            x = normal(rows, 4, 130)
            assert same(head_linear(x, packed, 2), head_linear(x, weight, 2))


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_rows_and_heads_do_not_affect_one_another(native: str, broken: float) -> None:
    for weight in (every_storage(4 * 40, 128)[7], dense(4 * 40, 128, mx.float16)):
        values = np.array(normal(60, 4, 132))
        oracle = np.array(head_linear(mx.array(values), weight, 4))
        alone = np.array(head_linear(mx.array(values[7:8]), weight, 4))
        assert np.array_equal(alone, oracle[7:8])
        values[7, 2, 5] = broken
        out = np.array(head_linear(mx.array(values), weight, 4))
        assert not np.isfinite(out[7, 2, :40]).any()
        out[7, 2], oracle[7, 2] = 0, 0
        assert np.array_equal(out, oracle)


def test_no_rows_and_operands_of_another_order(path: str | None) -> None:
    weight = dense(3 * 8, 16)
    assert head_linear(mx.zeros((0, 3, 18)), weight, 2).shape == (0, 3, 10)
    x = normal(3, 5, 18).swapaxes(0, 1)
    assert close(head_linear(x, weight, 2), head_linear_reference(x, weight, 2), EXACT)
    half = head_linear(x.astype(mx.float16), Dense(weight.weight.astype(mx.float16)), 2)
    assert half.dtype == mx.float16
