"""Arrays that nobody has written: their values, and when they take memory."""

import ctypes
import gc
import mmap
import sys

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.cpu import memory
from bessemer.kernels.cpu.memory import NAMES, blank, unwritten


def resident(array: mx.array) -> int:
    """Return the bytes of an array that the system holds, by whole pages inside it."""
    place = np.asarray(array).ctypes.data
    start = -(-place // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = (place + array.nbytes - start) // mmap.PAGESIZE
    held = (ctypes.c_ubyte * pages)()
    size = ctypes.c_size_t(pages * mmap.PAGESIZE)
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(start), size, held) == 0
    return sum(each & 1 for each in held) * mmap.PAGESIZE


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize("shape", [(3,), (7, 1000), (0, 5), (1, 3, 100_003)])
def test_zeros(dtype: mx.Dtype, shape: tuple[int, ...]) -> None:
    for _ in range(3):  # in memory that was written before too
        zeros = blank(shape, dtype)
        assert zeros.shape == shape and zeros.dtype == dtype
        assert not zeros.size or not (zeros != 0).any()
        ones = np.array(mx.ones((max(zeros.size, 1),), dtype).astype(mx.float32))
        del zeros
        dirty = unwritten(shape, dtype) if ones.size > 1 and 0 not in shape else None
        if dirty is not None:
            np.frombuffer(memoryview(dirty).cast("B"), np.uint8)[:] = 255  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' zeros are written")
def test_zeros_take_memory_where_they_are_used() -> None:
    gc.collect()
    mx.clear_cache()
    zeros = blank((64, 1 << 20), mx.float32)
    before = resident(zeros)
    assert before < 8 << 20
    np.asarray(zeros)[5] = 1
    assert 4 << 20 <= resident(zeros) - before < 32 << 20
    assert zeros.sum().item() == 1 << 20


def test_where_the_system_takes_no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of memory that is locked: it is written then."""
    monkeypatch.setattr(memory, "_madvise", lambda: lambda *_: -1)
    for _ in range(3):
        zeros = blank((5, 1 << 18), mx.uint8)
        assert not (zeros != 0).any()
        np.asarray(zeros)[:] = 255


def test_what_is_written_stays() -> None:
    array = unwritten((300, 7), mx.float32)
    np.asarray(array)[:] = np.arange(7)
    assert mx.array_equal(array, mx.broadcast_to(mx.arange(7), (300, 7)))
