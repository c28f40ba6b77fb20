"""The gated activation against its definition."""

import mlx.core as mx
import pytest

from bessemer.kernels.swiglu import swiglu, swiglu_reference

from .arrays import close, normal, same


@pytest.mark.parametrize("width", [7, 8, 96, 100])
def test_activation(width: int) -> None:
    x = normal(9, 2 * width) * 4
    found = swiglu(x)
    assert found.shape == (9, width)
    assert close(found, swiglu_reference(x))
    assert all(same(swiglu(x[i : i + 1]), found[i : i + 1]) for i in range(9))


def test_large_gates_saturate() -> None:
    found = swiglu(mx.array([[-200.0, 200.0, 3.0, 3.0]]))
    assert abs(float(found[0, 0])) < 1e-30
    assert float(found[0, 1]) == 600
