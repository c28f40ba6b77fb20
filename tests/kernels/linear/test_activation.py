"""The activations, gated and plain, against their definitions, on every path."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.linear.activation import (
    ACTIVATIONS,
    Activation,
    activate,
    activate_plain,
    activate_plain_reference,
    activate_reference,
)
from bessemer.kernels.linear.linear import gated_linear, linear_reference
from bessemer.kernels.linear.linear_mlx import Epilogue
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching

from ..arrays import close, normal, quantized, same
from ..tiers import PATHS, use

PLAIN: tuple[Activation, ...] = ("silu", "gelu", "gelu_tanh", "relu2")


@pytest.fixture(params=PATHS, autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, request.param)


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("width", [1, 7, 8, 96, 100, 3000])
def test_activation(kind: Activation, width: int) -> None:
    x = normal(9, 2 * width) * 4
    out = activate(x, kind)
    assert out.shape == (9, width)
    assert close(out, activate_reference(x, kind), 2e-6)
    assert all(same(activate(x[i : i + 1], kind), out[i : i + 1]) for i in range(9))


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("width", [1, 7, 96, 3000])
def test_without_a_gate(kind: Activation, width: int) -> None:
    x = normal(9, width) * 4
    out = activate_plain(x, kind)
    assert close(out, activate_plain_reference(x, kind), 2e-6)
    assert all(same(activate_plain(x[i : i + 1], kind), out[i : i + 1]) for i in range(9))
    ones = mx.concatenate([x, mx.ones(x.shape)], axis=1)
    assert close(out, activate(ones, kind), 2e-6)
    half = activate_plain(x.astype(mx.float16), kind)
    assert half.dtype == mx.float16
    assert close(half.astype(mx.float32), out, 2e-3)


def test_plain_ones_by_hand() -> None:
    """Squares; and the values of two functions that tables have."""
    x = mx.array([[-3.0, 0.0, 3.0, -mx.inf, mx.nan]])
    out = np.array(activate_plain(x, "relu2"))[0]
    assert np.array_equal(out, [0, 0, 9, 0, np.nan], equal_nan=True)
    ones = mx.array([[1.0, -1.0]])
    tables: dict[Activation, list[float]] = {
        "silu": [0.7310586, -0.2689414],
        "gelu": [0.8413447, -0.1586553],
    }
    for kind, oracle in tables.items():
        assert np.array(activate_plain(ones, kind))[0].tolist() == pytest.approx(oracle, abs=1e-6)
    assert activate_plain(mx.zeros((0, 4)), "relu2").shape == (0, 4)
    with pytest.raises(AssertionError):
        activate_plain(ones, "swiglu_clamped")


def test_a_gate_that_no_kernel_of_metal_knows() -> None:
    weight, epilogue = quantized(64, 64, 32, 4), Epilogue(activation="relu2")
    with using(Simulator(SimulatorOptions("check"))), watching() as launches:
        for rows in (1, 3):
            x = normal(rows, 64)
            out = gated_linear(x, weight, epilogue)
            assert close(out, linear_reference(x, weight, epilogue), 2e-5)
    assert not launches


def test_an_element_does_not_depend_on_its_place() -> None:
    x = normal(1, 2 * 37)
    gate, up = x[:, :37], x[:, 37:]
    part = mx.concatenate([gate[:, 5:18], up[:, 5:18]], axis=1)
    for kind in ACTIVATIONS:
        assert same(mx.contiguous(activate(x, kind)[:, 5:18]), activate(part, kind))


def test_large_gates_saturate() -> None:
    out = activate(mx.array([[-200.0, 200.0, 3.0, 3.0]]))
    assert abs(float(out[0, 0])) < 1e-30
    assert float(out[0, 1]) == 600


def test_the_limits_of_gpt_oss() -> None:
    out = activate(mx.array([[9.0, 9.0, -100.0, 9.0, -9.0, 0.0]]), "swiglu_clamped", 7.0)
    assert np.array(out)[0].tolist()[:2] == [
        pytest.approx(56, rel=1e-4),
        pytest.approx(-42, rel=1e-4),
    ]
    assert abs(np.array(out)[0].tolist()[2]) < 1e-30


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_nan_is_seen(kind: Activation) -> None:
    for x in ([[mx.nan, 1.0, 1.0, 1.0]], [[1.0, 1.0, mx.nan, 1.0]]):
        assert mx.isnan(activate(mx.array(x), kind)).tolist() == [[True, False]]
