"""Frequencies of each kind of scaling at the ends that the kinds are defined by."""

import numpy as np
import pytest

from bessemer.architectures.config import Rope
from bessemer.architectures.layers.rope import frequencies

PLAIN = Rope(theta=10_000.0)


def of(rope: Rope) -> np.ndarray:
    return np.array(frequencies(rope, 64))


def test_default_runs_from_1_to_almost_theta() -> None:
    assert of(PLAIN)[0] == 1
    assert of(PLAIN)[-1] == pytest.approx(10_000 ** (-62 / 64))


def test_linear_slows_all_alike() -> None:
    assert np.allclose(of(Rope(10_000.0, "linear", 4.0)) * 4, of(PLAIN))


@pytest.mark.parametrize("kind", ["llama3", "yarn"])
def test_fast_rotations_are_kept_and_slow_ones_stretched(kind: str) -> None:
    found = of(Rope(10_000.0, kind, 8.0, original_context=2048))
    ratio = found / of(PLAIN)
    assert ratio[0] == 1
    assert ratio[-1] == pytest.approx(1 / 8)
    assert (np.diff(ratio) <= 1e-6).all()


def test_a_ramp_of_no_width() -> None:
    found = of(Rope(10_000.0, "yarn", 8.0, original_context=2048, fast=5.0, slow=5.0))
    assert np.isfinite(found).all()
