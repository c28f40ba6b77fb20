"""The runtime's structures and its call, as ctypes sees them (runtime.h)."""

import ctypes
import threading
from functools import cache
from pathlib import Path

from .compiler import runtime_library
from .host import ENTRY
from .instrument import COUNTERS

INT32, UINT32, INT64, UINT64 = ctypes.c_int32, ctypes.c_uint32, ctypes.c_int64, ctypes.c_uint64
POINTER = ctypes.c_void_p

MAX_OPERATIONS, MAX_ATOMIC_SITES, MAX_PROBLEMS, MESSAGE_BYTES = 64, 64, 16, 160
KINDS = ("loads", "stores", "atomics")
CELL_BYTES = 16  # a shadow's bytes for each byte
LINE_BYTES = 64  # a word of a `seen` bitmap stands for so many bytes of address
MODES = {"fast": 0, "count": 1, "check": 3}

PROBLEMS = {
    1: "out-of-bounds",
    2: "data race",
    3: "uninitialised threadgroup read",
    4: "barrier divergence",
    5: "simd divergence",
    6: "threadgroup memory",
    7: "trap",
    8: "fault",
    9: "uninitialised output read",
    10: "cross-threadgroup hazard",
    11: "write to input",
    12: "endless kernel",
    13: "misaligned access",
}


class Traffic(ctypes.Structure):
    _fields_ = (("requested", UINT64 * 3), ("moved", UINT64 * 3))


class NativeBuffer(ctypes.Structure):
    _fields_ = (
        ("base", UINT64),
        ("size", UINT64),
        ("low", UINT64),
        ("high", UINT64),
        ("origin", UINT64),
        ("writable", UINT32),
        ("initialised", UINT32),
        ("shadow", POINTER),
        ("seen", POINTER * 3),
        ("traffic", Traffic),
    )


class NativeSite(ctypes.Structure):
    _fields_ = tuple((name, UINT32) for name in ("space", "kind", "line", "size", "align"))


class SiteCount(ctypes.Structure):
    _fields_ = (
        ("accesses", UINT64),
        ("requested", UINT64),
        ("moved", UINT64),
        ("instances", UINT64),
        ("lines", UINT64),
        ("bank_cycles", UINT64),
    )


class Problem(ctypes.Structure):
    _fields_ = (
        ("kind", UINT32),
        ("line", UINT32),
        ("group", UINT32 * 3),
        ("thread", UINT32),
        ("other_thread", UINT32),
        ("other_line", UINT32),
        ("size", UINT32),
        ("site", UINT32),
        ("offset", INT64),
        ("buffer", INT32),
        ("message", ctypes.c_char * MESSAGE_BYTES),
    )


class Dispatch(ctypes.Structure):
    _fields_ = (
        ("entry", POINTER),
        ("arguments", POINTER),
        ("grid", UINT32 * 3),
        ("group", UINT32 * 3),
        ("buffers", ctypes.POINTER(NativeBuffer)),
        ("buffer_count", UINT32),
        ("mode", UINT32),
        ("sites", ctypes.POINTER(NativeSite)),
        ("counts", ctypes.POINTER(SiteCount)),
        ("site_count", UINT32),
        ("reverse", UINT32),
        ("strict_simd", UINT32),
        ("line_bytes", UINT32),
        ("seconds", ctypes.c_double),
        ("threads", UINT64),
        ("threadgroups", UINT64),
        ("threadgroup_barriers", UINT64),
        ("simdgroup_barriers", UINT64),
        ("operations", UINT64 * MAX_OPERATIONS),
        ("matrix_flops", UINT64),
        ("switches", UINT64),
        ("divergent_simd", UINT64),
        ("device_atomics", UINT64),
        ("threadgroup_atomics", UINT64),
        ("global_constant_bytes", UINT64),
        ("threadgroup", Traffic),
        ("threadgroup_bytes", UINT32),
        ("atomic_sites", UINT32),
        ("problem_count", UINT32),
        ("flush", UINT32),
        ("problems", Problem * MAX_PROBLEMS),
    )


@cache
def one_at_a_time() -> threading.Lock:
    """Return the runtime's lock: its state is the process's, so it has one dispatch at a time."""
    return threading.Lock()


@cache
def _runtime() -> ctypes.CDLL:
    """Load the runtime, and the C library's mathematics, for kernels to find functions in."""
    ctypes.CDLL(None, mode=ctypes.RTLD_GLOBAL)
    _mathematics()
    loaded = ctypes.CDLL(str(runtime_library()), mode=ctypes.RTLD_GLOBAL)
    loaded.msl_dispatch.argtypes = (ctypes.POINTER(Dispatch),)
    mirrors = (Dispatch, NativeBuffer, Problem, NativeSite, SiteCount)
    for which, mirror in enumerate(mirrors):
        assert loaded.msl_size(which) == ctypes.sizeof(mirror), mirror
    assert loaded.msl_size(len(mirrors)) == CELL_BYTES
    return loaded


def _mathematics() -> None:
    for name in ("libm.so.6", "libm.so", "libm.dylib"):
        try:
            ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return


def run(dispatch: Dispatch) -> None:
    _runtime().msl_dispatch(dispatch)


@cache
def load(path: Path) -> ctypes.CDLL:
    _runtime()
    return ctypes.CDLL(str(path))


def entry(library: ctypes.CDLL) -> int:
    at = ctypes.cast(library[ENTRY], POINTER).value
    assert at is not None
    return at


def block_counters(library: ctypes.CDLL, blocks: int) -> ctypes.Array[ctypes.c_uint64]:
    return (UINT64 * max(1, blocks)).in_dll(library, COUNTERS)
