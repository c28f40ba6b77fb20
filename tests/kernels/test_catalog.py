"""Tests of what `bessemer kernels` and `bessemer doctor` say about each operation, by device."""

import pytest

from bessemer.kernels import catalog as module
from bessemer.kernels.catalog import OPERATIONS, CatalogEntry, catalog
from bessemer.kernels.cpu.library import sources as c_sources
from bessemer.kernels.metal.device import Device, Gpu, Nowhere, Simulator, using
from bessemer.kernels.registry import Registry
from bessemer.kernels.verdicts import Verdict, VerdictFile


def entries(device: Device | Nowhere) -> dict[str, CatalogEntry]:
    with using(device):
        return {entry.operation: entry for entry in catalog()}


def test_every_c_file_is_there() -> None:
    names = {path.name for path in c_sources()}
    assert {files.c for files in OPERATIONS.values() if files.c} <= names


def test_in_the_simulator_what_has_kernels_runs_them() -> None:
    listed = entries(Simulator())
    assert list(listed) == list(OPERATIONS)
    assert listed["rms_norm"].kernels == ("rms_norm",)
    assert (listed["rms_norm"].here, listed["rms_norm"].because) == ("simulator", "asked for")
    assert (listed["rope_table"].here, listed["rope_table"].because) == ("MLX", "no kernel")


@pytest.mark.parametrize("compiled", [True, False])
def test_on_a_cpu_c_runs_where_it_compiles(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "compiled", lambda: compiled)
    listed = entries(Nowhere())
    here = ("C", "no Metal device") if compiled else ("MLX", "no C compiler")
    assert (listed["linear"].here, listed["linear"].because) == here
    assert (listed["rope_table"].here, listed["rope_table"].because) == ("MLX", "no Metal device")


def test_on_a_gpu_verdicts_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = Registry(VerdictFile(None))
    tried._verdicts |= {
        "linear 1 64": Verdict(True, "", 2.0, 5.0),
        "gated_linear 1 64": Verdict(False, "", 3.0, 3.0),
        "moe 1": Verdict(False, "it is off"),
    }
    monkeypatch.setattr(module, "registry", lambda: tried)
    listed = entries(Gpu())
    linear, moe = listed["linear"], listed["moe"]
    assert (linear.here, linear.because) == (
        "Metal",
        "1 of 2 shapes; 2.50 times as fast in the middle",
    )
    assert (moe.here, moe.because) == ("MLX", "0 of 1 shapes; it is off")
    assert listed["sample"].here == "undecided"
    assert linear.as_dict()["operation"] == "linear"
