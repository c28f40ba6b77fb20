"""Activations of many rows on Metal, in the simulator's check mode, against the definition."""

from functools import partial

import mlx.core as mx
import pytest

from bessemer.kernels.linear.activation import IN_METAL, Activation, activate, activate_reference
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching

from ..arrays import close, normal
from ..metal_cases import Case

F, H, B = mx.float32, mx.float16, mx.bfloat16
CHECK = Simulator(SimulatorOptions(mode="check"))
TOLERANCE = {F: 2e-6, H: 1e-3, B: 8e-3}  # one rounding to the dtype
SIZES = ((1, 4), (3, 20), (2, 2052))  # the last of more than a threadgroup's


def check(activation: Activation, dtype: mx.Dtype, rows: int, width: int) -> None:
    x = (4 * normal(rows, 2 * width)).astype(dtype)
    with using(CHECK), watching() as launches:
        out = activate(x, activation, 1.5)
        mx.eval(out)
    assert [launch.source.name for launch in launches] == ["activation"]
    assert out.dtype == dtype and out.shape == (rows, width)
    oracle = activate_reference(x.astype(F), activation, 1.5)
    assert close(out.astype(F), oracle, TOLERANCE[dtype])


@pytest.mark.parametrize("activation", sorted(IN_METAL))
@pytest.mark.parametrize("dtype", [F, H, B], ids=str)
def test_rows(activation: Activation, dtype: mx.Dtype) -> None:
    for rows, width in SIZES:
        check(activation, dtype, rows, width)


def test_what_the_kernel_is_not_for() -> None:
    with using(CHECK), watching() as launches:
        others: dict[Activation, int] = {"silu": 6, "relu2": 8}
        for activation, width in others.items():
            x = normal(2, width)
            assert close(activate(x, activation), activate_reference(x, activation), 2e-6)
    assert not launches


def cases() -> list[Case]:
    """Return cases small enough for thousands of mutants."""
    return [
        Case(
            f"{activation} of {width}", "activation.metal", partial(check, activation, F, 3, width)
        )
        for activation in sorted(IN_METAL)
        for width in (4, 20)
    ]
