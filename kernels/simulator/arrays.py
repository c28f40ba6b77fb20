"""MLX arrays as memory: where their bytes lie, copies of those, and arrays from bytes."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

NUMPY = {
    mx.bool_: np.bool_,
    mx.uint8: np.uint8,
    mx.uint16: np.uint16,
    mx.uint32: np.uint32,
    mx.uint64: np.uint64,
    mx.int8: np.int8,
    mx.int16: np.int16,
    mx.int32: np.int32,
    mx.int64: np.int64,
    mx.float16: np.float16,
    mx.bfloat16: np.uint16,  # its bits
    mx.float32: np.float32,
    mx.complex64: np.complex64,
}


@dataclass(frozen=True, slots=True)
class Extent:
    """The bytes from an array's lowest to its highest, and where its first element is in them."""

    view: np.ndarray  # keeps them alive
    low: int
    size: int
    first: int

    @property
    def shape(self) -> np.ndarray:
        return np.array(self.view.shape, np.int32)

    @property
    def strides(self) -> np.ndarray:
        return np.array(self.view.strides, np.int64) // self.view.itemsize

    def overlaps(self, other: "Extent") -> bool:
        return self.low < other.low + other.size and other.low < self.low + self.size


def extent_of(view: np.ndarray) -> Extent:
    if not view.size:
        return Extent(view, 0, 0, 0)
    first = view.__array_interface__["data"][0]
    if view.flags.c_contiguous:
        return Extent(view, first, view.nbytes, 0)
    low, high = np.lib.array_utils.byte_bounds(view)
    return Extent(view, low, high - low, first - low)


def viewed(array: mx.array) -> np.ndarray:
    """View the memory of the array itself; bfloat16 as its bits."""
    buffer: Any = array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
    mx.eval(buffer)
    return np.asarray(memoryview(buffer))


def output_bytes(shape: Sequence[int], dtype: mx.Dtype) -> int:
    size = 1
    for length in shape:
        size *= length
    return size * dtype.size


def filled(shape: Sequence[int], dtype: mx.Dtype, value: float) -> np.ndarray:
    values = viewed(mx.full(tuple(shape), value).astype(dtype))
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def from_bytes(memory: np.ndarray, shape: Sequence[int], dtype: mx.Dtype) -> mx.array:
    """Return a new array with a copy of these bytes."""
    array = mx.array(memory.view(NUMPY[dtype]).reshape(tuple(shape)))
    array = array.view(mx.bfloat16) if dtype == mx.bfloat16 else array
    mx.eval(array)
    return array


def copy_in(extent: Extent, to: int) -> None:
    if extent.size:
        ctypes.memmove(to, extent.low, extent.size)


def copy_out(extent: Extent, source: int) -> None:
    """Copy into the memory of the array itself."""
    if extent.size:
        ctypes.memmove(extent.low, source, extent.size)
