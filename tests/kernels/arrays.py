"""Random arrays for kernel tests, and equality to the last bit."""

from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx
import numpy as np

from bessemer.kernels.linear.superblocks import SUPERBLOCKS, VALUES
from bessemer.kernels.linear.weight import Dense, Mode, Quantized, Weight

GROUPS: dict[Mode, tuple[int, int]] = {"mxfp4": (32, 4), "mxfp8": (32, 8), "nvfp4": (16, 4)}


def normal(*shape: int, seed: int = 0) -> mx.array:
    return mx.array(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def dense(rows: int, columns: int, dtype: mx.Dtype = mx.float32) -> Dense:
    return Dense(normal(rows, columns, seed=1).astype(dtype))


def quantized(
    rows: int, columns: int, group: int, bits: int, dtype: mx.Dtype = mx.bfloat16, seed: int = 1
) -> Quantized:
    words, scales, biases = mx.quantize(
        normal(rows, columns, seed=seed), group_size=group, bits=bits, mode="affine"
    )
    return Quantized(words, scales.astype(dtype), biases.astype(dtype), group, bits)


def floats(mode: Mode, rows: int, columns: int, seed: int = 1, exact: bool = True) -> Quantized:
    """Return rows of unlike size, so that scales are unlike."""
    size = mx.array(np.exp2(np.arange(rows) % 11 - 5).astype(np.float32))
    values = normal(rows, columns, seed=seed) * size[:, None]
    parts: Sequence[mx.array] = mx.quantize(values, mode=mode)
    return Quantized(parts[0], parts[1], None, *GROUPS[mode], mode, exact)


def superblocks(
    mode: Mode, rows: int, columns: int, seed: int = 1, exact: bool = True
) -> Quantized:
    """Return any codes under any whole numbers, and factors of rows of unlike size."""
    random, kind = np.random.default_rng(seed), SUPERBLOCKS[mode]
    blocks = columns // VALUES
    codes = random.integers(0, 2**32, (rows, columns * kind.bits // 32), dtype=np.uint32)
    whole = random.integers(0, 2**32, (rows, blocks * kind.words), dtype=np.uint32)
    if mode == "iq4_xs":  # whose whole numbers have 6 bits
        whole = (whole.view(np.int8) >> 2).view(np.uint32)
    factors = (
        random.normal(0, 0.1, (rows, blocks * kind.factors)) * (1 + np.arange(rows) % 7)[:, None]
    )
    words, numbers = mx.array(codes), mx.array(whole)
    halves = mx.array(factors.astype(np.float16))
    return Quantized(words, numbers, halves, kind.group, kind.bits, mode, exact)


def unbiased(
    mode: Mode, bits: int, rows: int, columns: int, seed: int = 1, exact: bool = True
) -> Quantized:
    """Return any codes of groups of 32 with scales alone."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, 2**32, (rows, columns * bits // 32), dtype=np.uint32)
    scales = random.normal(size=(rows, columns // 32)).astype(np.float16)
    return Quantized(mx.array(codes), mx.array(scales), None, 32, bits, mode, exact)


# GGUF's types without biases or in superblocks, by the names that tests give them.
UNBIASED: dict[str, tuple[Mode, int]] = {
    "iq4_nl": ("iq4_nl", 4),
    "q4_0": ("symmetric", 4),
    "q5_0": ("symmetric", 5),
    "q8_0": ("symmetric", 8),
}


def coded(
    form: int | str, rows: int, columns: int, group: int, dtype: mx.Dtype, seed: int = 1
) -> Quantized:
    """Return values of about 1 by bits, or by the name of another storage than affine."""
    if form == "mxfp4":
        parts = mx.quantize(normal(rows, columns, seed=seed), mode="mxfp4")
        return Quantized(parts[0], parts[1], None, 32, 4, "mxfp4")
    if form in UNBIASED:
        mode, bits = UNBIASED[form]
        weight = unbiased(mode, bits, rows, columns, seed)
        small = weight.scales * (1 / 128 if mode == "iq4_nl" else 2.0**-bits)
        return replace(
            weight, scales=small.astype(mx.float32 if dtype == mx.float32 else mx.float16)
        )
    if form in SUPERBLOCKS:
        weight = superblocks(form, rows, columns, seed)  # type: ignore[arg-type]
        assert weight.biases is not None
        return replace(weight, biases=(weight.biases * 2.0 ** -(weight.bits + 3)))
    if group < 32:
        weight = quantized(rows, columns, 32, int(form), dtype, seed)
        assert weight.biases is not None
        unlike = mx.tile(mx.array([1.0, 0.75]), columns // 32).astype(dtype)
        fine = (mx.repeat(each, 2, axis=1) * unlike for each in (weight.scales, weight.biases))
        return replace(weight, **dict(zip(("scales", "biases"), fine, strict=True)), group=16)
    return quantized(rows, columns, group, int(form), dtype, seed)


def unit_of(form: int | str, group: int) -> int:
    """Return what a row is a multiple of."""
    return VALUES if form in SUPERBLOCKS else max(group, 32)


def every_storage(rows: int, columns: int) -> list[Weight]:
    """Columns must be a multiple of 128."""
    floats = [dense(rows, columns, dtype) for dtype in (mx.float32, mx.bfloat16, mx.float16)]
    grid = [(group, bits) for group in (32, 64, 128) for bits in (2, 3, 4, 5, 6, 8)]
    return [*floats, *(quantized(rows, columns, group, bits) for group, bits in grid)]


def close(a: mx.array, b: mx.array, tolerance: float = 1e-5) -> bool:
    """Largest difference against the largest value."""
    return float(mx.max(mx.abs(a - b))) <= tolerance * float(mx.max(mx.abs(b)))


def same(a: mx.array, b: mx.array) -> bool:
    """Compare bit for bit; numpy sees only float32 and float16 that way."""
    return a.dtype == b.dtype and np.array(a).tobytes() == np.array(b).tobytes()
