"""Arrays that nobody has written yet: MLX writes its zeros, which takes as long as to read them.

MLX's loader lets a file-like object fill an array; here one leaves the memory as it is, or asks the
system for pages that are zero and take no memory before they are used.
"""

import ctypes
import json
import math
import mmap
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import MappingProxyType

import mlx.core as mx

LENGTH = 8  # bytes that say how long a header is
LARGE = 4 << 20  # bytes, from which on pages of 2 MB pay
NAMES: Mapping[mx.Dtype, str] = MappingProxyType(  # in safetensors' headers
    {
        mx.uint8: "U8",
        mx.int8: "I8",
        mx.uint32: "U32",
        mx.float16: "F16",
        mx.bfloat16: "BF16",
        mx.float32: "F32",
    }
)


def unwritten(shape: Sequence[int], dtype: mx.Dtype) -> mx.array:
    """Allocate an array, evaluated, whose values are whatever was there; not empty."""
    return _filled(shape, dtype, _in_large_pages)


def blank(shape: Sequence[int], dtype: mx.Dtype) -> mx.array:
    """Allocate zeros; in Linux's own memory they take room only where they are used."""
    if not math.prod(shape) or mx.default_device().type != mx.DeviceType.cpu:
        return mx.zeros(shape, dtype)
    return _filled(shape, dtype, _forget)


class _Stream:
    """A safetensors file of one tensor, as the loader reads it; `fill` is given its memory."""

    closed = False

    def __init__(self, header: bytes, size: int, fill: Callable[[memoryview], None]) -> None:
        self._header, self._size, self._fill = header, len(header) + size, fill
        self._place = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = (0, self._place, self._size)[whence] + offset
        return self._place

    def readinto(self, memory: memoryview) -> int:
        begin, self._place = self._place, self._place + len(memory)
        if begin < len(self._header):
            memory[:] = self._header[begin : self._place]
        else:
            self._fill(memory)
        return len(memory)


def _filled(shape: Sequence[int], dtype: mx.Dtype, fill: Callable[[memoryview], None]) -> mx.array:
    size = math.prod(shape) * dtype.size
    about = {"dtype": NAMES[dtype], "shape": [*shape], "data_offsets": [0, size]}
    header = json.dumps({"x": about}).encode()
    stream = _Stream(len(header).to_bytes(LENGTH, "little") + header, size, fill)
    loaded = mx.load(stream, format="safetensors")  # type: ignore[arg-type]
    assert isinstance(loaded, dict)
    mx.eval(loaded)
    return loaded["x"]


def _in_large_pages(memory: memoryview) -> None:
    """Ask for pages of 2 MB: they are handed out in a third of the time that small ones take."""
    if sys.platform == "linux" and len(memory) >= LARGE:
        _advise(memory, mmap.MADV_HUGEPAGE)


def _forget(memory: memoryview) -> None:
    """Make all bytes 0, whole pages by giving them back."""
    begin, end = _address(memory), _address(memory) + len(memory)
    inner = _advise(memory, mmap.MADV_DONTNEED) if sys.platform == "linux" else range(0)
    if not inner:
        ctypes.memset(begin, 0, len(memory))
        return
    _in_large_pages(memory)
    ctypes.memset(begin, 0, inner.start - begin)
    ctypes.memset(inner.stop, 0, end - inner.stop)


def _advise(memory: memoryview, advice: int) -> range:
    """Return the addresses of the whole pages that the system took the advice for; none if not."""
    begin, page = _address(memory), mmap.PAGESIZE
    inner = range(-(-begin // page) * page, (begin + len(memory)) // page * page)
    if not inner or _madvise()(inner.start, len(inner), advice):
        return range(0)
    return inner


@cache
def _madvise() -> Callable[[int, int, int], int]:
    function = ctypes.CDLL(None).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return lambda begin, size, advice: int(function(begin, size, advice))


def _address(memory: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
