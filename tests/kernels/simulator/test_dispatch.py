"""The runtime as Python calls it: structures of its sizes, faults that do not end the process."""

import ctypes

import pytest

from bessemer.kernels.simulator import dispatch
from bessemer.kernels.simulator.kernel import SimulatorError

from .running import I, planted


def test_endless() -> None:
    forever = f"{I}volatile uint n = i;\nwhile (n != 70) n = (n + 1) % 64;\no[i] = n;"
    with pytest.raises(SimulatorError, match=r"endless kernel: .*not ended after 0\.2 seconds"):
        planted(forever, "fast", options={"seconds": 0.2})
    planted(f"{I}o[i] = a[i];", "fast")  # the process is as it was


def test_division_by_zero() -> None:
    with pytest.raises(SimulatorError, match="fault: integer division by zero"):
        planted(f"{I}volatile int zero = 0;\no[i] = 3 / zero;", "fast")


def test_structures_have_the_sizes_that_the_runtime_says(monkeypatch: pytest.MonkeyPatch) -> None:
    class Short(ctypes.Structure):
        _fields_ = dispatch.Problem._fields_[:-1]

    monkeypatch.setattr(dispatch, "Problem", Short)
    with pytest.raises(AssertionError):
        dispatch._runtime.__wrapped__()
