"""Checkpoints' 8-bit floats by blocks and gpt-oss's experts, against torch and transformers."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.linear.fp8 import from_fp8

GOLDEN = Path(__file__).parents[1] / "golden" / "formats.npz"


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_blocks_as_torch_has_them(dtype: mx.Dtype) -> None:
    """All codes, NaN among them; the last blocks are cut."""
    with np.load(GOLDEN) as golden:
        codes, scales = mx.array(golden["codes"]), mx.array(golden["scales"])
        oracle = golden[str(dtype).removeprefix("mlx.core.")]
    out = from_fp8(codes, scales, (32, 64), dtype)
    assert out.dtype == dtype
    assert np.isnan(oracle).any()
    assert np.array_equal(np.array(out.astype(mx.float32)), oracle, equal_nan=True)


@pytest.mark.parametrize("block", [(1, 90), (70, 90), (70, 1), (7, 11), (128, 128)])
def test_other_blocks(block: tuple[int, int]) -> None:
    """A scale a row, a scale in all, and blocks larger than the matrix."""
    random = np.random.RandomState(0)
    codes = mx.array(random.randint(0, 120, (70, 90)).astype(np.uint8))
    shape = (-(-70 // block[0]), -(-90 // block[1]))
    scales = random.rand(*shape).astype(np.float32)
    every = [[scales[i // block[0], j // block[1]] for j in range(90)] for i in range(70)]
    oracle = np.array(mx.from_fp8(codes, mx.float32)) * np.array(every)
    assert np.array_equal(np.array(from_fp8(codes, mx.array(scales), block, mx.float32)), oracle)


def test_scales_of_another_shape_are_refused() -> None:
    with pytest.raises(AssertionError):
        from_fp8(mx.zeros((130, 128), mx.uint8), mx.ones((1, 1)))


def test_a_large_matrix_takes_little_more_than_itself() -> None:
    codes = mx.full((4096, 2050), 56, mx.uint8)
    scales = mx.arange(32 * 17).reshape(32, 17).astype(mx.float32)
    mx.eval(codes, scales)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    out = from_fp8(codes, scales)
    assert mx.get_peak_memory() - before < 1.5 * out.nbytes
    assert out[::128, ::128].tolist() == scales.astype(mx.bfloat16).tolist()
