"""Frequencies of each kind of scaling at the ends that the kinds are defined by."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from bessemer.architectures.config import Rope
from bessemer.architectures.layers.rope import Rotary, table_of

PLAIN = Rope(64, 10_000.0)


def frequencies_of(rope: Rope) -> np.ndarray:
    fixed = Rotary.of(rope).fixed
    assert fixed is not None
    return np.array(fixed)


def angles(rope: Rope, *max_lens: int) -> np.ndarray:
    """The angle of each dimension, of a token at position 1 of sequences of these lengths."""
    positions = mx.ones((len(max_lens),), mx.int32)
    table = table_of(positions, Rotary.of(rope).angles(max_lens))
    return np.arctan2(np.array(table.sin), np.array(table.cos))[:, 0]


def test_default_runs_from_1_to_almost_theta() -> None:
    assert frequencies_of(PLAIN)[0] == 1
    assert frequencies_of(PLAIN)[-1] == pytest.approx(10_000 ** (-62 / 64))


def test_linear_slows_all_alike() -> None:
    assert np.allclose(frequencies_of(Rope(64, 10_000.0, "linear", 4.0)) * 4, frequencies_of(PLAIN))


@pytest.mark.parametrize("kind", ["llama3", "yarn"])
def test_fast_rotations_are_kept_and_slow_ones_stretched(kind: str) -> None:
    frequencies = frequencies_of(Rope(64, 10_000.0, kind, 8.0, original_context=2048))
    ratio = frequencies / frequencies_of(PLAIN)
    assert ratio[0] == 1
    assert ratio[-1] == pytest.approx(1 / 8)
    assert (np.diff(ratio) <= 1e-6).all()


def test_a_ramp_of_no_width() -> None:
    frequencies = frequencies_of(
        Rope(64, 10_000.0, "yarn", 8.0, original_context=2048, fast=5.0, slow=5.0)
    )
    assert np.isfinite(frequencies).all()


def test_longrope_divides_by_what_the_length_of_a_sequence_asks_for() -> None:
    short, long = (2.0,) * 32, (4.0,) * 32
    rope = Rope(
        64, 10_000.0, "longrope", original_context=32, short_factors=short, long_factors=long
    )
    frequencies = angles(rope, 32, 33)
    assert np.allclose(frequencies[0] * 2, frequencies_of(PLAIN), atol=1e-6)
    assert np.allclose(frequencies[1] * 4, frequencies_of(PLAIN), atol=1e-6)


def test_longrope_may_have_another_size_in_long_sequences() -> None:
    factors = (1.0,) * 32
    rope = Rope(
        64,
        10_000.0,
        "longrope",
        original_context=32,
        attention_factor=1.5,
        short_factors=factors,
        long_factors=factors,
    )
    positions, max_lens = mx.zeros((2,), mx.int32), (32, 33)
    for longer, sizes in ((None, [1.5, 1.5]), (2.5, [1.5, 2.5])):
        rotary = Rotary.of(replace(rope, long_attention_factor=longer))
        table = table_of(positions, rotary.angles(max_lens))
        assert np.array(table.cos)[:, 0, 0].tolist() == sizes


def test_dynamic_scaling_begins_beyond_the_context() -> None:
    rope = Rope(64, 10_000.0, "dynamic", factor=4.0, context=100)
    within, beyond, far = angles(rope, 100, 101, 400)
    assert np.allclose(within, frequencies_of(PLAIN), atol=1e-6)
    assert (beyond[1:] < within[1:]).all() and (far[1:] < beyond[1:]).all()
    assert beyond[0] == within[0]


def test_a_rope_that_varies_says_so() -> None:
    kinds = ("default", "linear", "llama3", "yarn", "longrope", "dynamic")
    varying = [kind for kind in kinds if replace(PLAIN, kind=kind).varies]
    assert varying == ["longrope", "dynamic"]
