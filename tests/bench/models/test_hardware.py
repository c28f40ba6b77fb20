"""Tests of bench/models/hardware.py."""

import itertools

import pytest

from bessemer.bench.models.hardware import chips


def test_every_generation_is_there() -> None:
    assert {key.split("-")[0] for key in chips()} == {"m1", "m2", "m3", "m4", "m5"}
    assert all(chip.key == key for key, chip in chips().items())


def test_a_bigger_chip_of_a_generation_is_no_slower() -> None:
    order = ["", "-pro", "-max", "-ultra"]
    for generation in ("m1", "m2", "m3", "m4", "m5"):
        family = [chips()[generation + size] for size in order if generation + size in chips()]
        for small, large in itertools.pairwise(family):
            assert small.bandwidth <= large.bandwidth and small.tflops < large.tflops
            assert small.cores < large.cores


def test_the_roofline_is_the_slower_of_two() -> None:
    chip = chips()["m4-max"]
    assert chip.seconds(546_000_000, 0) == pytest.approx(1e-3 / chip.reached)
    assert chip.seconds(0, 16_500_000_000) == pytest.approx(1e-3)
    balanced = int(chip.ridge * 1e9)
    assert chip.seconds(10**9, balanced) == pytest.approx(chip.seconds(10**9, 0), rel=1e-6)
    assert chip.seconds(10**9, 2 * balanced) == pytest.approx(2 * chip.seconds(10**9, 0), rel=1e-6)


def test_published_figures() -> None:
    """The bandwidths are Apple's own."""
    assert [chips()[key].bandwidth for key in ("m1-max", "m3-ultra", "m4-max")] == [410, 819, 546]
