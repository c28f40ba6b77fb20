"""Tests of bench/kernels/host_time.py: a step with empty kernels is a step of the Metal path."""

import pytest

from bessemer.bench.host.gpu import modelled_gpu
from bessemer.bench.kernels.host_time import a_layer, decoding, host_times, main
from bessemer.bench.models.hardware import chips


def test_a_step_launches_what_a_gpu_would() -> None:
    counts = []
    with modelled_gpu(chips()["m1"]) as run:
        for layers in (1, 3):
            with run.clock.paused():
                engine = decoding(layers, 1)
            run.counts.clear()
            engine.step()
            counts.append(sum(run.counts[name] for name in ("linear", "attention_tail")))
    assert counts[1] - counts[0] == 2 * 5  # qkv, attention, output, gate and up, down


def test_every_case_has_a_time_in_every_round() -> None:
    times = host_times([(1, 1), (2, 1)], 3)
    assert [len(samples) for samples in times.values()] == [3, 3]
    assert all(each > 0 for samples in times.values() for each in samples)


def test_a_layer_is_the_slope() -> None:
    each, rest = a_layer({(2, 1): [1.0, 1.2], (4, 1): [1.4, 1.6]}, 1)
    assert each.median == pytest.approx(0.2) and rest.median == pytest.approx(0.7)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--layers", "1", "--layers", "2", "--sequences", "2", "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 layers, 2 sequences: ") and lines[-1].endswith("ms besides")
