"""The apple-like arithmetic: as wrong as the specification's tables let it be, and no worse."""

from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from bessemer.kernels.simulator.kernel import SimulatorOptions, metal_kernel

Numbers = NDArray[np.float64]
APPLE = SimulatorOptions(apple_like=True)


def worst(expression: str, x: Numbers, options: SimulatorOptions = APPLE) -> NDArray[np.float32]:
    source = f"uint i = thread_position_in_grid.x;\nfloat x = a[i];\no[i] = {expression};"
    kernel = metal_kernel("worst", ["a"], ["o"], source, options=options)
    (out,) = kernel(
        inputs=[mx.array(x.astype(np.float32))],
        output_shapes=[x.shape],
        output_dtypes=[mx.float32],
        grid=(x.size, 1, 1),
        threadgroup=(64, 1, 1),
    )
    return np.array(out)


def ulps(out: NDArray[np.float32], exact: Numbers) -> Numbers:
    return np.abs(out - exact) / np.exp2(np.floor(np.log2(np.abs(exact))) - 23)


def spread(low: float, high: float) -> Numbers:
    values = np.random.default_rng(1).uniform(low, high, 4096)
    return values.astype(np.float32).astype(np.float64)


# Table 8.1: what precise functions may be off by, in units of the last place.
PRECISE: list[tuple[str, float, float, float, Callable[[Numbers], Numbers]]] = [
    ("exp(x)", 4, -20, 20, np.exp),
    ("exp2(x)", 4, -20, 20, np.exp2),
    ("log(x)", 4, 0.01, 100, np.log),
    ("log2(x)", 4, 0.01, 100, np.log2),
    ("sin(x)", 4, -9, 9, np.sin),
    ("tan(x)", 6, -1.5, 1.5, np.tan),
    ("tanh(x)", 5, -4, 4, np.tanh),
    ("atan(x)", 5, -9, 9, np.arctan),
    ("pow(x, 3.5f)", 16, 0.1, 9, lambda x: x**3.5),
    ("sqrt(x)", 0.5, 0, 100, np.sqrt),
    ("rsqrt(x)", 0.5, 0.01, 100, lambda x: 1 / np.sqrt(x)),
]
# Table 8.2: fast functions; where the bound is of the difference itself, it has a domain.
FAST: list[tuple[str, Callable[[Numbers], Numbers], float, float, Callable[[Numbers], Numbers]]] = [
    ("exp(x)", lambda x: 3 + np.floor(np.abs(2 * x)), -20, 20, np.exp),
    ("exp2(x)", lambda x: 3 + np.floor(np.abs(2 * x)), -20, 20, np.exp2),
    ("log(x)", lambda x: 3 + 0 * x, 2.01, 100, np.log),
    ("log2(x)", lambda x: 2 + 0 * x, 2.01, 100, np.log2),
    ("rsqrt(x)", lambda x: 2 + 0 * x, 0.01, 100, lambda x: 1 / np.sqrt(x)),
    ("atan(x)", lambda x: 5 + 0 * x, -9, 9, np.arctan),
    ("divide(x, 3.0f)", lambda x: 2.5 + 0 * x, 0.1, 9, lambda x: x / 3),
]
ABSOLUTE: list[tuple[str, float, float, float, Callable[[Numbers], Numbers]]] = [
    ("log(x)", 2.0**-21, 0.5, 2, np.log),
    ("log2(x)", 2.0**-22, 0.5, 2, np.log2),
    ("sin(x)", 2.0**-13, -3.14, 3.14, np.sin),
    ("cos(x)", 2.0**-13, -3.14, 3.14, np.cos),
]


def is_the_worst(share: Numbers) -> bool:
    """All errors within their bounds, which they come near to, and to both sides of the number."""
    return bool(share.max() <= 1.0 and share.max() > 0.7)


@pytest.mark.parametrize(("call", "bound", "low", "high", "exact"), PRECISE)
def test_precise(
    call: str, bound: float, low: float, high: float, exact: Callable[[Numbers], Numbers]
) -> None:
    x = spread(low, high)
    assert is_the_worst(ulps(worst(f"precise::{call}", x), exact(x)) / bound)


@pytest.mark.parametrize("space", ["fast::", ""])
@pytest.mark.parametrize(("call", "bound", "low", "high", "exact"), FAST)
def test_fast(
    call: str,
    bound: Callable[[Numbers], Numbers],
    low: float,
    high: float,
    exact: Callable[[Numbers], Numbers],
    space: str,
) -> None:
    x = spread(low, high)
    assert is_the_worst(ulps(worst(space + call, x), exact(x)) / bound(x))


@pytest.mark.parametrize(("call", "bound", "low", "high", "exact"), ABSOLUTE)
def test_fast_near_zero(
    call: str, bound: float, low: float, high: float, exact: Callable[[Numbers], Numbers]
) -> None:
    x = spread(low, high)
    assert is_the_worst(np.abs(worst(f"fast::{call}", x) - exact(x)) / bound)


def test_fast_functions_that_are_made_of_others() -> None:
    x = np.array([0.0, 1e-6, 50.0])
    assert worst("fast::exp2(x)", x)[0] != 1
    tanh = worst("fast::tanh(x)", x)
    assert tanh[0] != 0 and np.isnan(tanh[2])  # infinity by infinity
    assert np.isnan(worst("fast::pow(x, 0.0f)", x)[0])


def test_max_and_min_of_nan() -> None:
    x = np.full(64, np.nan, np.float64)
    for call in ("max(x, 1.0f)", "clamp(x, 0.0f, 1.0f)", "fmin(1.0f, x)"):
        assert (worst(f"precise::{call}", x) <= 1).all()
        for space in ("", "fast::"):
            assert not (worst(space + call, x) <= 1).any()
    assert worst("max(int(x), 3)", np.arange(8.0)).tolist() == [3, 3, 3, 3, 4, 5, 6, 7]


def test_subnormal_numbers_are_zero() -> None:
    small = np.array([1e-39, 1e-37, -1e-40])
    for expression, results in (("x * 2.0f", [0, 2e-37, 0]), ("x * 1e-3f", [0, 0, 0])):
        assert worst(expression, small) == pytest.approx(results, rel=1e-6, abs=0)
    assert worst("x * 2.0f", small, SimulatorOptions())[0] > 0
    assert np.array([1e-39], np.float32)[0] * np.float32(1) > 0  # this thread's are as before


def test_products_and_sums_are_fused() -> None:
    x = np.array([1.0 + 2.0**-12])
    assert worst("x * x - 1.0f", x)[0] == 2.0**-11 + 2.0**-24
    assert worst("x * x - 1.0f", x, SimulatorOptions())[0] == 2.0**-11
