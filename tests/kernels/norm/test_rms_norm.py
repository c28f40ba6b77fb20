"""The norm against its definition, on every path, over widths and leading axes."""

import mlx.core as mx
import pytest

from bessemer.kernels.norm.rms_norm import rms_norm, rms_norm_reference

from ..arrays import close, normal, same
from ..tiers import PATHS, use


@pytest.fixture(params=PATHS, autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, request.param)


@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 7), (1, 16), (7, 100), (33, 4, 24), (5, 576), (40, 2048)]
)
def test_norm(shape: tuple[int, ...]) -> None:
    x, weight = normal(*shape) * 3, normal(shape[-1], seed=1)
    out = rms_norm(x, weight, 0.02)
    assert out.shape == x.shape
    assert close(out, rms_norm_reference(x, weight, 0.02))
    assert all(same(rms_norm(x[i : i + 1], weight, 0.02), out[i : i + 1]) for i in range(len(x)))


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_a_weight_of_16_bits(dtype: mx.Dtype) -> None:
    x, weight = normal(3, 45), normal(45, seed=1).astype(dtype)
    assert close(rms_norm(x, weight, 1e-5), rms_norm_reference(x, weight, 1e-5))


def test_x_of_16_bits_stays_so() -> None:
    x = normal(2, 8).astype(mx.float16)
    assert rms_norm(x, mx.ones(8, mx.float16), 1e-6).dtype == mx.float16
    assert rms_norm(x, mx.ones(8), 1e-6).dtype == mx.float16


def test_a_slice_and_no_rows() -> None:
    wide, weight = normal(4, 60), normal(20, seed=1)
    x = wide[:, 20:40]
    assert close(rms_norm(x, weight, 1e-5), rms_norm_reference(x, weight, 1e-5))
    assert rms_norm(mx.zeros((0, 20)), weight, 1e-5).shape == (0, 20)


def test_eps_keeps_zeros_finite() -> None:
    assert float(mx.max(mx.abs(rms_norm(mx.zeros((2, 8)), mx.ones(8), 1e-6)))) == 0


def test_nan_stays_in_its_row() -> None:
    x = normal(3, 40)
    x[1, 39] = mx.nan
    out = rms_norm(x, mx.ones(40), 1e-6)
    assert mx.isnan(out).all(axis=-1).tolist() == [False, True, False]
    assert not mx.isnan(out[0]).any() and not mx.isnan(out[2]).any()
