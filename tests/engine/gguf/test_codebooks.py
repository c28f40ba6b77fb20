"""Types of codebooks become weights of the very numbers that the gguf package says."""

from pathlib import Path

import numpy as np
import pytest

from bessemer.engine.gguf import codebooks
from bessemer.engine.gguf.blocks import BLOCKS
from bessemer.engine.gguf.codebooks import CODEBOOKS, THREES, TWOS, Grid
from bessemer.kernels.linear.weight import widen

GOLDEN = np.load(Path(__file__).parent / "golden" / "blocks.npz")
# By what ggml calls the grid: ours, and the values of its digits.
GRIDS: dict[str, tuple[Grid, np.ndarray]] = {
    "IQ2_XXS": (codebooks.IQ2_XXS, TWOS),
    "IQ2_XS": (codebooks.IQ2_XS, TWOS),
    "IQ2_S": (codebooks.IQ2_S, TWOS),
    "IQ3_XXS": (codebooks.IQ3_XXS, THREES),
    "IQ3_S": (codebooks.IQ3_S, np.arange(1, 16, 2)),
    "IQ1_S": (codebooks.IQ1, np.array([-1, 0, 1])),
}
# Bits of a weight, with its share of the scales and biases.
BITS = {
    "IQ1_S": 4,
    "IQ1_M": 8,
    "IQ2_XXS": 10,
    "IQ2_XS": 12,
    "IQ2_S": 12,
    "IQ3_XXS": 10,
    "IQ3_S": 6,
    "TQ1_0": 2.25,
    "TQ2_0": 2.25,
    "Q1_0": 2.25,
}


@pytest.mark.parametrize("name", GRIDS)
def test_grids_are_those_of_ggml(name: str) -> None:
    grid, values = GRIDS[name]
    assert np.array_equal(values[grid.rows], GOLDEN[f"{name}.grid"])


@pytest.mark.parametrize("name", CODEBOOKS)
def test_numbers_are_the_same_to_the_bit(name: str) -> None:
    weight = BLOCKS[name].matrix(GOLDEN[f"{name}.raw"])
    assert np.array_equal(np.array(widen(weight)), GOLDEN[f"{name}.numbers"])


@pytest.mark.parametrize("name", CODEBOOKS)
def test_what_a_weight_takes(name: str) -> None:
    assert BLOCKS[name].loaded_bytes(1024) * 8 / 1024 == BITS[name]
