"""Blocks become weights of the very numbers that the gguf package says."""

from pathlib import Path

import numpy as np
import pytest

from bessemer.engine.gguf.blocks import BLOCKS, packed
from bessemer.engine.gguf.codebooks import CODEBOOKS
from bessemer.kernels.linear.weight import arrays_of, widen

GOLDEN = np.load(Path(__file__).parent / "golden" / "blocks.npz")
LARGEST = np.float16(65504)


PLAIN = sorted(BLOCKS.keys() - CODEBOOKS.keys())


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("name", PLAIN)
def test_numbers_are_the_same_to_the_bit(
    name: str, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By C, and by NumPy where none runs."""
    if not native:
        monkeypatch.setattr("bessemer.engine.gguf.blocks.take_apart", lambda *_: None)
    weight = BLOCKS[name].matrix(GOLDEN[f"{name}.raw"])
    assert np.array_equal(np.array(widen(weight)), GOLDEN[f"{name}.numbers"])
    count, size = GOLDEN[f"{name}.numbers"].size, sum(each.nbytes for each in arrays_of(weight))
    assert BLOCKS[name].loaded_bytes(count) == size


@pytest.mark.parametrize("name", PLAIN)
def test_a_weight_takes_what_the_file_has(name: str) -> None:
    type, count = BLOCKS[name].type, 1024
    held = BLOCKS[name].loaded_bytes(count) / (count // type.values * type.bytes)
    assert held == (138 / 136 if name == "IQ4_XS" else 1)  # scales in whole words


@pytest.mark.parametrize("bits", range(2, 9))
def test_codes_are_packed_as_mlx_has_them(bits: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 2**bits, (2, 64), dtype=np.uint8)
    words = packed(codes, bits)
    stream = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little").reshape(2, 64, bits)
    assert (np.packbits(stream, axis=2, bitorder="little")[..., 0] == codes).all()


@pytest.mark.parametrize("name", ["Q4_0", "Q5_0", "Q8_0"])
def test_the_largest_factors(name: str) -> None:
    raw = GOLDEN[f"{name}.raw"].copy()
    raw.reshape(-1, BLOCKS[name].type.bytes)[0, :2] = np.array([LARGEST]).view(np.uint8)
    numbers = np.array(widen(BLOCKS[name].matrix(raw)))[0, :32]
    codes = numbers / np.float32(LARGEST)
    assert np.isfinite(numbers).all() and np.array_equal(codes, np.round(codes))


def test_a_scale_that_is_no_number_is_0() -> None:
    """E4M3's largest code is, in MLX; in GGUF files it has no sign and stands for 0."""
    raw = GOLDEN["NVFP4.raw"][:1].copy()
    raw[0, 1] = 127
    numbers = np.array(widen(BLOCKS["NVFP4"].matrix(raw)))[0]
    assert not numbers[16:32].any() and numbers[:16].any() and numbers[32:48].any()


def test_cuts_of_a_long_tensor_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bessemer.engine.gguf.blocks.AT_ONCE", 64)
    weight = BLOCKS["Q4_1"].matrix(GOLDEN["Q4_1.raw"])
    assert np.array_equal(np.array(widen(weight)), GOLDEN["Q4_1.numbers"])
