"""Numbers of all types in MLX's layout, as MLX itself restores them."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.engine.gguf.blocks import BLOCKS
from bessemer.engine.gguf.mlx_form import EIGHT, in_halves, in_mlx_layout, is_exact, rounded
from bessemer.kernels.linear.weight import Quantized

from .make_golden import GOLDEN

NUMBERS = np.load(GOLDEN / "blocks.npz")
SIXTEENS = {"Q2_K", "Q3_K", "Q6_K", "IQ1_M", "IQ2_XS", "IQ2_S"}


def restored(weight: Quantized) -> np.ndarray:
    """By MLX, from what a checkpoint has."""
    affine = weight.mode == "affine"
    return np.array(
        mx.dequantize(
            weight.weight,
            weight.scales.astype(mx.float32) if affine else weight.scales,
            None if weight.biases is None else weight.biases.astype(mx.float32),
            weight.group,
            weight.bits,
            weight.mode,
            dtype=mx.float32,
        )
    )


@pytest.mark.parametrize("name", BLOCKS)
def test_numbers_that_stay_are_the_same_to_the_bit(name: str) -> None:
    near = in_mlx_layout(BLOCKS[name].matrix(NUMBERS[f"{name}.raw"]))
    assert is_exact(name) == (near is not None) == (name not in SIXTEENS)
    if near is not None:
        assert np.array_equal(restored(near), NUMBERS[f"{name}.numbers"])


@pytest.mark.parametrize("name", sorted(SIXTEENS))
def test_numbers_that_are_rounded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bessemer.engine.gguf.mlx_form.AT_ONCE", 256)
    near, error = rounded(BLOCKS[name].matrix(NUMBERS[f"{name}.raw"]))
    assert (near.group, near.bits, near.scales.dtype) == (EIGHT.group, EIGHT.bits, mx.float16)
    numbers = NUMBERS[f"{name}.numbers"].astype(np.float64)
    off = restored(near) - numbers
    assert error.relative == pytest.approx(np.sqrt((off**2).sum() / (numbers**2).sum()), rel=1e-3)
    spread = np.ptp(numbers.reshape(-1, 32), axis=1).max()
    assert 0 < np.abs(off).max() < spread / 200


def test_scales_of_16_bits() -> None:
    weight = in_mlx_layout(BLOCKS["Q4_K"].matrix(NUMBERS["Q4_K.raw"]))
    assert weight is not None and weight.scales.dtype == mx.float32
    near, error = in_halves(weight)
    assert near.scales.dtype == mx.float16 and 0 < error.relative < 1e-3
    same = in_mlx_layout(BLOCKS["Q4_1"].matrix(NUMBERS["Q4_1.raw"]))
    assert same is not None and in_halves(same)[0] is same
