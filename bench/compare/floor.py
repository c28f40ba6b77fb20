"""The machine's own limits, measured between the rounds: bytes read and operations a second."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
import psutil

from bessemer.bench.compare.machine import processor
from bessemer.bench.models.synthetic import cache_folder

SOURCE = Path(__file__).with_name("floor.c")
FLAGS = ("-O3", "-ffp-contract=fast", "-pthread", "-shared", "-fPIC")
NATIVE = ("-march=native", "-mcpu=native", "")  # whichever this compiler and machine take
BUFFER = 1 << 30  # many times any last-level cache
REPEATS = 4
SECONDS = 0.15
SIDE = 4096  # of the matrices with which a GPU is measured
BY_MLX = "floors are those of the GPU as MLX's own sum and matrix product reach them"
WITHOUT_COMPILER = (
    "floors were read with numpy, as there is no C compiler: the true ones are higher"
)


@dataclass(frozen=True, slots=True)
class Floors:
    """Limits in 10^9 a second; 0 is not measured."""

    read: float
    read_one: float
    flops: float
    int8: float


@dataclass(frozen=True, slots=True)
class Meter:
    """Measures floors; `note` says what is wrong with them, if anything."""

    measure: Callable[[], Floors]
    note: str = ""


def meter(threads: int, size: int = 0) -> Meter:
    size = size or min(BUFFER, psutil.virtual_memory().total // 8)
    if mx.default_device().type == mx.DeviceType.gpu:
        return Meter(lambda: _by_mlx(size, SIDE), BY_MLX)
    path = library()
    if path is None:
        return Meter(lambda: _by_numpy(threads, size), WITHOUT_COMPILER)
    lib = ctypes.CDLL(str(path))
    lib.read_bandwidth.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
    for function in (lib.fma_flops, lib.int8_ops):
        function.argtypes = [ctypes.c_int, ctypes.c_double]
    for function in (lib.read_bandwidth, lib.fma_flops, lib.int8_ops):
        function.restype = ctypes.c_double
    return Meter(lambda: _by_c(lib, threads, size))


def _by_c(lib: ctypes.CDLL, threads: int, size: int) -> Floors:
    values = (
        lib.read_bandwidth(threads, size, REPEATS),
        lib.read_bandwidth(1, size, REPEATS),
        lib.fma_flops(threads, SECONDS),
        lib.int8_ops(threads, SECONDS),
    )
    return Floors(*(max(value, 0) / 1e9 for value in values))


def _by_numpy(threads: int, size: int) -> Floors:
    data = np.ones(size // 8, np.uint64)

    def once(count: int) -> float:
        parts = np.array_split(data, count)
        with ThreadPoolExecutor(count) as pool:
            began = time.perf_counter()
            list(pool.map(np.sum, parts))
            return data.nbytes / (time.perf_counter() - began) / 1e9

    best = [max(once(count) for _ in range(REPEATS)) for count in (threads, 1)]
    return Floors(best[0], best[1], 0.0, 0.0)


def _by_mlx(size: int, side: int) -> Floors:
    """Measure the device that models run on; there is no int8 product to be had."""
    data = mx.ones((size // 4,), mx.float32)
    matrix = mx.ones((side, side), mx.float16)
    mx.eval(data, matrix)

    def seconds(work: Callable[[], mx.array]) -> float:
        best = float("inf")
        for _ in range(REPEATS):
            began = time.perf_counter()
            mx.eval(work())
            best = min(best, time.perf_counter() - began)
        return best

    read = data.nbytes / seconds(lambda: mx.sum(data)) / 1e9
    return Floors(read, 0.0, 2 * side**3 / seconds(lambda: matrix @ matrix) / 1e9, 0.0)


def library() -> Path | None:
    """Return floor.c compiled for this machine, kept in the cache; None without a compiler."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    content = SOURCE.read_bytes() + repr((FLAGS, compiler, processor())).encode()
    target = cache_folder() / f"floor-{hashlib.sha256(content).hexdigest()[:16]}.so"
    if not target.exists() and not _compile(compiler, target):
        return None
    return target


def _compile(compiler: str, target: Path) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        built = Path(folder) / target.name
        for native in NATIVE:
            flags = [*FLAGS, native] if native else [*FLAGS]
            command = [compiler, *flags, "-o", str(built), str(SOURCE)]
            if subprocess.run(command, capture_output=True).returncode == 0:
                built.replace(target)
                return True
    return False
