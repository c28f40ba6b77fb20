"""The gated activations against their definitions, on every path."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels import activation as module
from bessemer.kernels.activation import (
    ACTIVATIONS,
    Activation,
    activate,
    activate_reference,
)

from .arrays import close, normal, same
from .tiers import PATHS, use


@pytest.fixture(params=PATHS, autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, request.param, module)


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("width", [1, 7, 8, 96, 100, 3000])
def test_activation(kind: Activation, width: int) -> None:
    x = normal(9, 2 * width) * 4
    found = activate(x, kind)
    assert found.shape == (9, width)
    assert close(found, activate_reference(x, kind), 2e-6)
    assert all(same(activate(x[i : i + 1], kind), found[i : i + 1]) for i in range(9))


def test_an_element_does_not_depend_on_its_place() -> None:
    x = normal(1, 2 * 37)
    gate, up = x[:, :37], x[:, 37:]
    part = mx.concatenate([gate[:, 5:18], up[:, 5:18]], axis=1)
    for kind in ACTIVATIONS:
        assert same(mx.contiguous(activate(x, kind)[:, 5:18]), activate(part, kind))


def test_large_gates_saturate() -> None:
    found = activate(mx.array([[-200.0, 200.0, 3.0, 3.0]]))
    assert abs(float(found[0, 0])) < 1e-30
    assert float(found[0, 1]) == 600


def test_the_limits_of_gpt_oss() -> None:
    found = activate(mx.array([[9.0, 9.0, -100.0, 9.0, -9.0, 0.0]]), "swiglu_clamped", 7.0)
    assert np.array(found)[0].tolist()[:2] == [
        pytest.approx(56, rel=1e-4),
        pytest.approx(-42, rel=1e-4),
    ]
    assert abs(np.array(found)[0].tolist()[2]) < 1e-30


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_nan_is_seen(kind: Activation) -> None:
    for x in ([[mx.nan, 1.0, 1.0, 1.0]], [[1.0, 1.0, mx.nan, 1.0]]):
        assert mx.isnan(activate(mx.array(x), kind)).tolist() == [[True, False]]
