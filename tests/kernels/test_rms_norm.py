"""The norm against its definition, over widths and leading axes."""

import mlx.core as mx
import pytest

from bessemer.kernels.rms_norm import rms_norm, rms_norm_reference

from .arrays import close, normal, same


@pytest.mark.parametrize("shape", [(1, 16), (7, 100), (33, 4, 24), (5, 576)])
def test_norm(shape: tuple[int, ...]) -> None:
    x, weight = normal(*shape) * 3, normal(shape[-1], seed=1)
    found = rms_norm(x, weight, 0.02)
    assert close(found, rms_norm_reference(x, weight, 0.02))
    assert all(same(rms_norm(x[i : i + 1], weight, 0.02), found[i : i + 1]) for i in range(len(x)))


def test_eps_keeps_zeros_finite() -> None:
    assert float(mx.max(mx.abs(rms_norm(mx.zeros((2, 8)), mx.ones(8), 1e-6)))) == 0
