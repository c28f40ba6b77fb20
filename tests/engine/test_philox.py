"""The draw at a position, against NumPy's stream."""

import random

import numpy as np
import pytest

from bessemer.engine.philox import uniform

SEEDS = [0, 1, 2**63, 2**64 - 1, *(random.Random(1).getrandbits(64) for _ in range(40))]


@pytest.mark.parametrize("seed", SEEDS)
def test_any_position_is_numpys(seed: int) -> None:
    stream = np.random.Generator(np.random.Philox(key=seed)).random(4100)
    positions = [*range(41), 1022, 1023, 1024, 1025, 4095, 4096, 4097]
    random.Random(seed).shuffle(positions)
    assert [uniform(seed, at) for at in positions] == stream[positions].tolist()


def test_a_far_position_is_numpys() -> None:
    stream = np.random.Philox(key=7).advance(2**20)  # blocks
    assert uniform(7, 2**22) == np.random.Generator(stream).random()


def test_seeds_count_modulo_64_bits() -> None:
    assert uniform(2**64 + 5, 9) == uniform(5, 9) != uniform(6, 9)
    assert uniform(-1, 9) == uniform(2**64 - 1, 9)
