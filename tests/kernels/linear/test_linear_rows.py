"""Tests of what the kernel for a few rows takes, and in how many tiles."""

import mlx.core as mx

from bessemer.kernels.linear.linear_rows import covers, tiles_of

from ..arrays import dense, floats, quantized

F, H, B = mx.float32, mx.float16, mx.bfloat16


def test_tiles_that_fit() -> None:
    """Taller ones only where there are enough, and codes do not take too many registers."""
    tiles = {bits: tiles_of(quantized(1 << 13, 128, 128, bits), 8) for bits in (2, 4, 8)}
    assert tiles == {2: 8, 4: 8, 8: 4}
    assert tiles_of(quantized(1 << 13, 128, 128, 4), 16) == 4
    assert tiles_of(dense((1 << 13) - 1, 32), 8) == 4


def test_what_is_covered() -> None:
    weight = quantized(8, 64, 32, 4)
    assert [rows for rows in range(40) if covers(rows, weight, H)] == list(range(2, 17))
    assert covers(2, floats("mxfp4", 8, 64), B)
    assert not covers(2, floats("mxfp8", 8, 64), B)
    assert covers(2, dense(8, 96, B), F)
    assert not covers(2, dense(8, 40), F)
    assert not covers(2, weight, mx.int32)
