"""GGUF's blocks taken apart in C, whatever device computes: NumPy takes ten times as long."""

from collections.abc import Mapping, Sequence
from ctypes import c_ssize_t
from types import MappingProxyType

import mlx.core as mx
import numpy as np

from ..cpu.library import INT, POINTER, address, host_library
from ..cpu.memory import unwritten

# The types that blocks.c knows, by their numbers in files.
TYPES: Mapping[str, int] = MappingProxyType(
    {
        "Q4_0": 2,
        "Q4_1": 3,
        "Q5_0": 6,
        "Q5_1": 7,
        "Q8_0": 8,
        "Q2_K": 10,
        "Q3_K": 11,
        "Q4_K": 12,
        "Q5_K": 13,
        "Q6_K": 14,
        "IQ4_NL": 20,
        "IQ4_XS": 23,
        "MXFP4": 39,
        "NVFP4": 40,
    }
)
FILES = "linear/blocks.c", "cpu/threads.c"


def take_apart(
    type: str, raw: np.ndarray, size: int, one: Sequence[mx.array]
) -> list[mx.array] | None:
    """Return codes, scales and biases of blocks; None where C does not know them, or none runs.

    raw: (rows, bytes) uint8 of blocks of `size` bytes; `one` is what a row of one block becomes.
    """
    loaded = host_library(FILES) if type in TYPES else None
    if loaded is None:
        return None
    rows, width = raw.shape
    assert raw.flags.c_contiguous and raw.size
    arrays = [unwritten((rows, width // size * each.shape[1]), each.dtype) for each in one]
    places = [*map(address, arrays), None][:3]
    native = loaded.function("op_blocks", INT, POINTER, c_ssize_t, POINTER, POINTER, POINTER)
    native(TYPES[type], raw.ctypes.data, raw.size // size, *places)
    return arrays
