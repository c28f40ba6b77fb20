"""Arrays as memory: strided inputs as they lie, copies of their bytes, arrays from bytes."""

import mlx.core as mx
import pytest

from bessemer.kernels.simulator.arrays import (
    copy_out,
    extent_of,
    filled,
    from_bytes,
    output_bytes,
    viewed,
)
from bessemer.kernels.simulator.kernel import SimulatorError, SimulatorOptions, metal_kernel
from bessemer.kernels.simulator.report import Mode

from .running import COPY, I, run

BY_STRIDES = f"{I}o[i] = a[elem_to_loc(int64_t(i), a_shape, a_strides, a_ndim)];"


def strided(name: str) -> mx.array:
    x = mx.arange(64, dtype=mx.float32)
    array = {
        "transposed": lambda: x.reshape(8, 8).T,
        "reversed": lambda: x[::-1],
        "every other": lambda: mx.arange(128, dtype=mx.float32)[1::2],
        "broadcast": lambda: mx.broadcast_to(mx.arange(8, dtype=mx.float32), (8, 8)),
        "part": lambda: mx.arange(256, dtype=mx.float32).reshape(16, 16)[2:10, 3:11],
        "backwards": lambda: mx.arange(256, dtype=mx.float32).reshape(16, 16)[10:2:-1, 11:3:-1],
        "half": lambda: x.reshape(8, 8).astype(mx.bfloat16).T,
    }[name]()
    mx.eval(array)
    return array


NAMES = ["transposed", "reversed", "every other", "broadcast", "part", "backwards", "half"]


@pytest.mark.parametrize("mode", ["fast", "check"])
@pytest.mark.parametrize("name", NAMES)
def test_strided_inputs_as_they_lie(name: str, mode: Mode) -> None:
    a = strided(name)
    kernel = metal_kernel(
        "s",
        ["a"],
        ["o"],
        BY_STRIDES,
        ensure_row_contiguous=False,
        options=SimulatorOptions(mode=mode),
    )
    assert run(kernel, a).tolist() == a.flatten().astype(mx.float32).tolist()


def test_strides_are_those_of_the_memory() -> None:
    source = "uint i = thread_position_in_grid.x; o[i] = a_strides[i];"
    lies = metal_kernel("s", ["a"], ["o"], source, ensure_row_contiguous=False)
    copied = metal_kernel("s", ["a"], ["o"], source)
    for name, strides in (("transposed", [1, 8]), ("backwards", [-16, -1]), ("broadcast", [0, 1])):
        a = strided(name)
        assert run(lies, a, size=2).tolist() == strides
        assert run(copied, a, size=2).tolist() == [8, 1]


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_made_contiguous(name: str) -> None:
    a = strided(name)
    assert run(metal_kernel("c", ["a"], ["o"], COPY), a).tolist() == a.flatten().tolist()


def test_beside_a_strided_input_is_a_guard() -> None:
    kernel = metal_kernel("g", ["a"], ["o"], f"{I}o[i] = a[-int(i)];", ensure_row_contiguous=False)
    assert run(kernel, strided("reversed")).tolist() == list(range(63, -1, -1))
    with pytest.raises(SimulatorError, match="out-of-bounds: a"):
        run(metal_kernel("g", ["a"], ["o"], COPY, ensure_row_contiguous=False), strided("reversed"))


def test_an_extent_is_all_the_memory_between_its_ends() -> None:
    x = mx.arange(16, dtype=mx.float32).reshape(4, 4)
    mx.eval(x)
    reverse = extent_of(viewed(x[::-1]))
    assert (reverse.size, reverse.first) == (64, 48)
    assert reverse.shape.tolist() == [4, 4] and reverse.strides.tolist() == [-4, 1]
    assert extent_of(viewed(x)).overlaps(extent_of(viewed(x))) and not extent_of(
        viewed(x)
    ).overlaps(extent_of(viewed(mx.zeros((4, 4)) + 1)))
    assert extent_of(viewed(mx.zeros((0, 3)))).size == 0


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.bool_, mx.int64])
def test_arrays_from_bytes(dtype: mx.Dtype) -> None:
    memory = filled((2, 3), dtype, 1.0)
    assert memory.size == output_bytes((2, 3), dtype)
    array = from_bytes(memory, (2, 3), dtype)
    assert array.dtype == dtype and array.tolist() == [[1] * 3] * 2
    copy_out(extent_of(viewed(array)), filled((2, 3), dtype, 0.0).ctypes.data)
    assert array.astype(mx.float32).tolist() == [[0] * 3] * 2
