"""Matrices of 8-bit floats with a scale a block become plain numbers."""

import mlx.core as mx

BAND = 1 << 18  # values that are restored at a time


def from_fp8(
    codes: mx.array,
    scales: mx.array,
    block: tuple[int, int] | None = (128, 128),
    dtype: mx.Dtype = mx.bfloat16,
) -> mx.array:
    """Return (rows, columns) in dtype, evaluated: each code's value times the scale of its block.

    codes: (rows, columns) uint8, E4M3 (OCP 8-bit Floating Point); scales: (rows, columns) / block,
    rounded up, any floating dtype; a single one where the block is None. DeepSeek calls them
    `weight_scale_inv`.
    """
    rows, columns = codes.shape
    if block is None:
        block, scales = (rows, columns), scales.reshape(1, 1)
    high, wide = block
    assert scales.shape == (-(-rows // high), -(-columns // wide)), "blocks do not cover the matrix"
    taken = max(1, BAND // (high * columns))  # rows of blocks
    out = mx.zeros((rows, columns), dtype)
    for first in range(0, scales.shape[0], taken):
        start, stop = first * high, min(rows, (first + taken) * high)
        band = _spread(scales[first : first + taken].astype(mx.float32), block)
        values = mx.from_fp8(codes[start:stop], mx.float32)
        out[start:stop] = (values * band[: stop - start, :columns]).astype(dtype)
        mx.eval(out)  # in its own memory, before the next band takes any
    mx.eval(out)
    return out


def _spread(scales: mx.array, block: tuple[int, int]) -> mx.array:
    """Repeat each scale over its block."""
    high, wide = block
    return mx.repeat(mx.repeat(scales, wide, axis=1), high, axis=0)
