"""The centred norm against its definition, on every path."""

import mlx.core as mx
import pytest

from bessemer.kernels.norm.layer_norm import layer_norm, layer_norm_reference

from ..arrays import close, normal, same
from ..tiers import PATHS, use


@pytest.fixture(params=PATHS, autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, request.param)


@pytest.mark.parametrize("shape", [(1, 2), (3, 7), (7, 100), (4, 3, 24), (40, 2048)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_norm(shape: tuple[int, ...], with_bias: bool) -> None:
    x, weight = normal(*shape) * 3 + 10, normal(shape[-1], seed=1)
    bias = normal(shape[-1], seed=2) if with_bias else None
    out = layer_norm(x, weight, bias, 0.02)
    assert close(out, layer_norm_reference(x, weight, bias, 0.02))
    for i in range(len(x)):
        assert same(layer_norm(x[i : i + 1], weight, bias, 0.02), out[i : i + 1])


def test_a_large_mean_does_not_spoil_the_variance() -> None:
    x = normal(2, 1000) + 1000
    out = layer_norm(x, mx.ones(1000), None, 0)
    assert abs(float(mx.std(out)) - 1) < 1e-3


def test_a_bias_of_16_bits() -> None:
    x, weight, bias = normal(5, 100), normal(100, seed=1), normal(100, seed=3).astype(mx.bfloat16)
    out = layer_norm(x, weight, bias, 1e-5)
    assert close(out, layer_norm_reference(x, weight, bias, 1e-5))


def test_x_of_16_bits_stays_so() -> None:
    x = normal(2, 8).astype(mx.float16)
    assert layer_norm(x, mx.ones(8), mx.zeros(8), 1e-6).dtype == mx.float16
    assert layer_norm(x, mx.ones(8), None, 1e-6).dtype == mx.float16
