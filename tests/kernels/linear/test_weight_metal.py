"""A weight as Metal kernels take it, and what they leave to MLX."""

import re
from dataclasses import replace

import mlx.core as mx
import pytest

from bessemer.kernels.linear.superblocks import SUPERBLOCKS
from bessemer.kernels.linear.weight import Dense, Quantized, pack
from bessemer.kernels.linear.weight_metal import (
    DENSE,
    MXFP4,
    MetalWeight,
    as_metal,
    format_of,
    metal_weight,
)
from bessemer.kernels.metal.source import HERE

from ..arrays import UNBIASED, coded, dense, floats, quantized


def test_affine_weights_are_taken_by_their_bits() -> None:
    stored = metal_weight(quantized(8, 64, 32, 3, mx.float16))
    assert (stored.kind, stored.group) == (3, 32)
    assert stored.template == {"W": mx.uint32, "S": mx.float16, "FORMAT": 3, "GROUP": 32}
    assert stored.codes == {"S": mx.float16, "FORMAT": 3, "GROUP": 32}


def test_a_mode_without_biases_has_its_scales_there() -> None:
    weight = floats("mxfp4", 8, 64)
    stored = metal_weight(weight)
    assert stored.kind == MXFP4 == format_of(weight)
    assert mx.array_equal(stored.arrays[2], stored.arrays[1])


@pytest.mark.parametrize("form", [*SUPERBLOCKS, *UNBIASED])
def test_ggufs_types_are_taken_by_their_numbers(form: str) -> None:
    """quantized.h names them, and is told scales and biases as they are stored."""
    weight = coded(form, 8, 256, 32, mx.float16)
    stored = metal_weight(weight)
    numbers = dict(re.findall(r"(\w+) = (\d+)", (HERE / "quantized.h").read_text()))
    assert stored.kind == int(numbers[form.upper()]) and stored.kind // 10 == weight.bits
    assert stored.codes == {"S": weight.scales.dtype, "FORMAT": stored.kind, "GROUP": weight.group}
    assert stored.arrays[2].dtype == mx.float16
    assert format_of(replace(weight, bits=7, mode="symmetric")) is None


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_dense_weights_are_taken_in_whole_runs(dtype: mx.Dtype) -> None:
    weight = dense(4, 24, dtype)
    stored = as_metal(weight)
    assert isinstance(stored, MetalWeight) and stored.kind == DENSE
    assert all(array is weight.weight for array in stored.arrays)
    assert as_metal(dense(4, 20, dtype)) is None


def test_what_no_kernel_takes() -> None:
    eight = floats("mxfp8", 8, 64)
    assert format_of(eight) is None and as_metal(eight) is None
    assert as_metal(Dense(mx.zeros((4, 24), mx.int32))) is None
    packed = pack(quantized(64, 64, 32, 4))
    assert as_metal(packed) is None or isinstance(packed, Quantized)
    with pytest.raises(AssertionError):
        metal_weight(eight)
