"""Memory between two pages that nobody may touch, so that what lies outside of it faults."""

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import mlx.core as mx
import numpy as np

PAGE = mmap.PAGESIZE
ALIGNMENT = 16
POISON = 0xFF
POISONED = bytes([POISON]) * (PAGE + 2 * ALIGNMENT)
READ_WRITE, NOTHING = 3, 0
FREE_BYTES = 64 << 20  # mappings that wait for the next dispatch


@dataclass(frozen=True, slots=True)
class Guarded:
    """`size` bytes that end, up to alignment, where the second guard page begins."""

    low: int  # with the guards
    high: int
    base: int
    size: int

    @property
    def pages(self) -> int:
        """The number of pages between the guards."""
        return (self.high - self.low) // PAGE - 2

    def values(self) -> np.ndarray:
        return _bytes(self.base, self.size)

    def poison(self) -> None:
        for first, size in self._slack():
            ctypes.memset(first, POISON, size)

    def clean(self) -> bool:
        return all(
            ctypes.string_at(first, size) == POISONED[:size] for first, size in self._slack()
        )

    def _slack(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return what lies between the guards and the memory, poisoned and looked at afterwards."""
        first, end = self.low + PAGE, self.base + self.size
        return (first, self.base - first), (end, self.high - PAGE - end)


class Mappings:
    """Mappings by their number of pages, which are used again once they are given back."""

    def __init__(self) -> None:
        self._free: dict[int, list[int]] = {}
        self._free_bytes = 0

    def take(self, size: int, shift: int = 0) -> Guarded:
        pages = max(1, -(-(max(size, 1) + 2 * ALIGNMENT - 1) // PAGE))
        free = self._free.get(pages)
        if free:
            self._free_bytes -= pages * PAGE
        low = free.pop() if free else _map(pages)
        high = low + (pages + 2) * PAGE
        base = ((high - PAGE - max(size, 1) - shift) & -ALIGNMENT) + shift
        memory = Guarded(low, high, base, size)
        memory.poison()
        return memory

    def give(self, memory: Guarded) -> None:
        pages = memory.pages
        if self._free_bytes + pages * PAGE > FREE_BYTES:
            _libc().munmap(memory.low, (pages + 2) * PAGE)
            return
        self._free_bytes += pages * PAGE
        self._free.setdefault(pages, []).append(memory.low)


@contextmanager
def borrowed() -> Iterator["Borrower"]:
    """Lend memory for one dispatch."""
    borrower = Borrower([])
    try:
        yield borrower
    finally:
        for memory in borrower.taken:
            _mappings().give(memory)


@dataclass(frozen=True, slots=True)
class Borrower:
    taken: list[Guarded]

    def take(self, size: int, shift: int = 0) -> Guarded:
        """Take memory that begins `shift` bytes beyond an aligned place."""
        self.taken.append(_mappings().take(size, shift))
        return self.taken[-1]


def _bytes(at: int, size: int) -> np.ndarray:
    """View memory that the caller keeps mapped."""
    if not size:
        return np.empty(0, np.uint8)
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(at))


def _map(pages: int) -> int:
    size = (pages + 2) * PAGE
    anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    at: int | None = _libc().mmap(None, size, READ_WRITE, anonymous, -1, 0)
    if at is None or at == ctypes.c_void_p(-1).value:
        raise MemoryError(f"no {size} bytes for a buffer of the simulator")
    for guard in (at, at + size - PAGE):
        _libc().mprotect(guard, PAGE, NOTHING)
    return at


@cache
def allocated_at() -> int:
    """Return where, of ALIGNMENT bytes, MLX's memory begins: on a CPU its size is before it."""
    array = mx.zeros((64,))
    mx.eval(array)
    return int(np.asarray(memoryview(array)).ctypes.data % ALIGNMENT)  # type: ignore[arg-type]


@cache
def _mappings() -> Mappings:
    return Mappings()


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    size, pointer, number = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
    libc.mmap.restype = pointer
    libc.mmap.argtypes = (pointer, size, number, number, number, ctypes.c_long)
    libc.mprotect.argtypes = (pointer, size, number)
    libc.munmap.argtypes = (pointer, size)
    return libc
