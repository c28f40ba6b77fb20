"""Rows are split, joined, gated and added alike on every path."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.linear.rows import add, gated_add, join, shaped, split
from bessemer.kernels.metal.device import Simulator, using

from ..arrays import close, normal, same
from ..tiers import PATHS, use


@pytest.fixture(params=PATHS, autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, request.param)


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16])
def test_parts_join_again(rows: int, dtype: mx.Dtype) -> None:
    x = normal(rows, 10).astype(dtype)
    parts = split(x, [3, 7])
    assert [part.shape for part in parts] == [(rows, 3), (rows, 4), (rows, 3)]
    assert all(part.dtype == dtype for part in parts)
    assert same(parts[1], x[:, 3:7])
    assert same(join(parts), x)
    assert join(parts).dtype == dtype


def test_another_shape() -> None:
    x = normal(6, 4)
    assert same(shaped(x, 6, 2, 2), x.reshape(6, 2, 2))
    assert same(shaped(x.reshape(6, 2, 2), 6, -1), x)
    assert same(shaped(x[:, ::2], 3, -1), x[:, ::2].reshape(3, -1))


@pytest.mark.parametrize("scale", [1.0, 0.22])
def test_a_sum(scale: float) -> None:
    x, y = normal(3, 9), normal(3, 9, seed=1)
    assert close(add(x, y, scale), x + scale * y)
    assert add(x.astype(mx.bfloat16), y.astype(mx.bfloat16), scale).dtype == mx.bfloat16


@pytest.mark.parametrize("rows", [1, 3, 300])
def test_a_gate_of_a_row(rows: int) -> None:
    y, residual, gates = normal(rows, 1024), normal(rows, 1024, seed=1), normal(rows, 1, seed=2)
    out = gated_add(y, gates, residual)
    assert close(out, y * mx.sigmoid(gates) + residual)
    assert close(gated_add(y, gates, None), y * mx.sigmoid(gates))
    assert same(gated_add(y[:1], gates[:1], residual[:1]), out[:1])


def test_on_a_device_they_stay_in_its_graph() -> None:
    x = normal(2, 6)
    with using(Simulator()):
        assert same(join(split(x, [4])), x)
        assert np.array(add(x, x, 2.0)) == pytest.approx(3 * np.array(x))
