"""Tests of where Metal kernels run: one device a context, given back at the end of a block."""

from contextvars import copy_context

import pytest

from bessemer.kernels.metal import device as module
from bessemer.kernels.metal.device import Gpu, Nowhere, Simulator, cores_of, device, use, using


def test_blocks_nest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "gpu", lambda: None)
    with using(Nowhere()):
        assert device() is None
        with using(Simulator()):
            assert device() == Simulator()
        assert device() is None


def test_a_chip_has_about_the_cores_of_its_size() -> None:
    names = ("M1", "M4 Pro", "M4 Max", "M3 Ultra", "Paravirtual device")
    assert [cores_of(f"Apple {name}") for name in names] == [10, 20, 40, 80, 40]


def test_a_gpu_is_used_unless_the_context_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "gpu", lambda: Gpu())
    context = copy_context()
    context.run(use, Nowhere())
    assert context.run(device) is None
    with using(Gpu(trusted=True)):
        assert device() == Gpu(trusted=True)
