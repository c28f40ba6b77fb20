"""The gates of the gated delta rule against their definition in 64 bits, on every path."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.recurrent.delta_gates import delta_gates

from ..arrays import normal, same
from ..tiers import PATHS, use


@pytest.fixture(params=PATHS, autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, request.param)


def inputs(rows: int, heads: int) -> tuple[mx.array, mx.array, mx.array, mx.array]:
    """Decays and corrections far enough from 0 that some gates are shut or wide open."""
    decay, correction = normal(rows, heads) * 15, normal(rows, heads, seed=1) * 15
    rates, offsets = -mx.exp(normal(heads, seed=2)), normal(heads, seed=3)
    mx.eval(rates, offsets)
    return decay, correction, rates, offsets


@pytest.mark.parametrize(("rows", "heads"), [(1, 1), (3, 5), (70, 32), (200, 47)])
def test_against_the_definition(rows: int, heads: int) -> None:
    arrays = inputs(rows, heads)
    g, beta = delta_gates(*arrays)
    decay, correction, rates, offsets = (np.array(each).astype(np.float64) for each in arrays)
    assert np.array(g) == pytest.approx(rates * np.logaddexp(decay + offsets, 0), rel=1e-5, abs=0)
    assert np.array(beta) == pytest.approx(1 / (1 + np.exp(-correction)), rel=1e-5, abs=1e-35)


def test_a_row_alone_has_the_same_bits() -> None:
    decay, correction, rates, offsets = inputs(9, 3)
    together = delta_gates(decay, correction, rates, offsets)
    for i in range(9):
        alone = delta_gates(decay[i : i + 1], correction[i : i + 1], rates, offsets)
        assert all(
            same(a, mx.contiguous(b[i : i + 1])) for a, b in zip(alone, together, strict=True)
        )


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_gates_of_16_bits_are_given_in_32(dtype: mx.Dtype) -> None:
    decay, correction, rates, offsets = inputs(4, 6)
    decay, correction = decay.astype(dtype), correction.astype(dtype)
    out = delta_gates(decay, correction, rates, offsets)
    decay, correction = decay.astype(mx.float32), correction.astype(mx.float32)
    wide = delta_gates(decay, correction, rates, offsets)
    assert all(same(a, b) for a, b in zip(out, wide, strict=True))
    assert all(each.dtype == mx.float32 for each in out)


def test_columns_of_another_array() -> None:
    """A layer has them so: the last columns of a projection."""
    _, _, rates, offsets = inputs(1, 4)
    correction, decay = mx.split(normal(5, 30)[:, 22:], 2, axis=1)
    contiguous = delta_gates(mx.contiguous(decay), mx.contiguous(correction), rates, offsets)
    together = delta_gates(decay, correction, rates, offsets)
    assert all(same(a, b) for a, b in zip(together, contiguous, strict=True))


def test_no_rows() -> None:
    nothing = mx.zeros((0, 4))
    g, beta = delta_gates(nothing, nothing, -mx.ones((4,)), mx.ones((4,)))
    assert g.shape == beta.shape == (0, 4)
