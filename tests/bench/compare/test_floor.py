"""The machine's floor: plausible figures with a compiler, with numpy, and with MLX."""

import shutil
from pathlib import Path

import pytest

from bessemer.bench.compare import floor
from bessemer.bench.compare.floor import Floors, meter


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(floor, "SECONDS", 0.02)


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_measured_by_c() -> None:
    gauge = meter(2, 1 << 24)
    assert gauge.note == ""
    floors = gauge.measure()
    assert floors.read > 0.5 and floors.read_one > 0.5 and floors.flops > 0.5
    first = floor.library()
    assert first is not None and floor.library() == first


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    gauge = meter(2, 1 << 24)
    assert "no C compiler" in gauge.note
    floors = gauge.measure()
    assert floors.read > 0.1 and (floors.flops, floors.int8) == (0, 0)


def test_a_source_that_does_not_compile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken.c"
    broken.write_text("int main(")
    monkeypatch.setattr(floor, "SOURCE", broken)
    assert floor.library() is None


def test_measured_by_mlx() -> None:
    floors = floor._by_mlx(1 << 20, 64)
    assert isinstance(floors, Floors) and floors.read > 0 and floors.flops > 0
