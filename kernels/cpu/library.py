"""The C kernels as a shared library: compiled once for this machine, kept in a cache, then loaded.

Sources are this folder's and the operations' own C files. Which instruction sets the machine has,
`probe.c` says; the best of them is used unless `use_tier` asks for another.
"""

import ctypes
import hashlib
import importlib.util
import itertools
import math
import mmap
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Protocol

import mlx.core as mx
import numpy as np

HERE = Path(__file__).parent
FLAGS = (
    *("-std=gnu11", "-O3", "-fPIC", "-pthread", "-fvisibility=hidden", "-fno-math-errno"),
    *("-ffp-contract=off", "-Wall", "-Wextra", "-Wno-psabi", "-Wno-unknown-warning-option"),
)
AUTO = "auto"  # the best tier that the machine has
AVX2 = ("avx2", "fma", "f16c", "bmi2")
AVX512 = (*AVX2, *(f"avx512{part}" for part in ("f", "bw", "dq", "vl", "vnni", "vbmi")))
ARM = "-march=armv8.2-a+dotprod+fp16"


@dataclass(frozen=True, slots=True)
class Tier:
    """An instruction set: the compiler's flags, and what the processor must have (probe.c)."""

    flags: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()


# Best first for each kind of machine; the last runs anywhere.
TIERS: Mapping[str, Tier] = MappingProxyType(
    {
        "avx512": Tier(
            (*(f"-m{name}" for name in AVX512), "-mprefer-vector-width=512"), frozenset(AVX512)
        ),
        "avx2": Tier(tuple(f"-m{name}" for name in AVX2), frozenset(AVX2)),
        "neon": Tier((ARM,), frozenset({"dotprod", "fp16"})),
        "plain": Tier(),
    }
)
# zig takes this machine's instructions where nothing is said, and -march for a processor's name.
ZIG = ("-m", "ziglang", "cc", "-mcpu=baseline")
ZIG_FLAGS = {ARM: "-mcpu=generic+v8_2a+dotprod+fullfp16"}
NUMBERS = {mx.float32: 0, mx.float16: 1, mx.bfloat16: 2}  # as in simd.h
E8M0, E4M3 = 3, 4  # the same, of scales of 8 bits

NOTICE = "Compiling the CPU kernels for this machine ({})."
ONCE, AGAIN = "once", "again whenever {} is emptied; XDG_CACHE_HOME names a folder that stays"
CACHE_SECONDS = 60 * 86_400.0
LARGE = 1 << 18  # floats that are copied in as long as MLX takes to hand out zeros

POINTER, INT, FLOAT = ctypes.c_void_p, ctypes.c_int, ctypes.c_float  # numbers, as C takes them
Function = Callable[..., int]

_chosen: ContextVar[str] = ContextVar("tier", default=AUTO)


class Recording(Protocol):
    """What notes calls instead of making them (recorder.py), and gives their results memory."""

    def native(self, name: str, types: tuple[type, ...]) -> Function: ...

    def empty(self, shape: tuple[int, ...], dtype: type) -> mx.array: ...

    def view(self, x: mx.array, shape: tuple[int, ...]) -> mx.array: ...


recording: ContextVar[Recording | None] = ContextVar("recording", default=None)


class CompileError(RuntimeError):
    """The C compiler failed; the message holds its first complaint."""


@dataclass(frozen=True, slots=True, eq=False)
class Library:
    """A loaded library; functions return 0, or 1 where memory was short."""

    tier: str
    handle: ctypes.CDLL
    lanes: int  # floats of a vector, and so rows of a panel

    def function(self, name: str, *types: type) -> Function:
        native: Function = getattr(self.handle, name)
        native.argtypes = types  # type: ignore[attr-defined]
        native.restype = _checked  # type: ignore[attr-defined]
        return native

    def resize(self, threads: int) -> None:
        """Set how many threads an operation may use, the caller's included."""
        self.handle.pool_resize(threads)


def _checked(status: int) -> int:
    if status:
        raise MemoryError("a kernel could not allocate its scratch memory")
    return status


@cache
def library() -> Library | None:
    """Return this process's C kernels; None on a GPU, or with a warning if nothing compiles."""
    if mx.default_device().type != mx.DeviceType.cpu:
        return None
    try:
        name = _chosen.get()
        loaded = load(tiers()[0] if name == AUTO else name)
    except (CompileError, OSError) as error:
        print(
            f"warning: the CPU kernels are not used, so expect a hundredth of the speed: {error}; "
            f"install a C compiler (gcc or clang), or `{sys.executable} -m pip install ziglang`",
            file=sys.stderr,
        )
        return None
    loaded.resize(_processors())
    return loaded


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@cache
def host_library(files: tuple[str, ...]) -> Library | None:
    """Return C for the host beside a GPU too, of these files alone; None where nothing compiles.

    files: from the folder of all kernels; on a CPU they are in the library already.
    """
    if mx.default_device().type == mx.DeviceType.cpu:
        return library()
    try:
        tier = tiers()[0]
        paths = [HERE.parent / file for file in files]
        handle = _loaded(f"{paths[0].stem}-{tier}", paths, TIERS[tier].flags)
    except (CompileError, OSError):
        return None
    loaded = Library(tier, handle, 0)
    loaded.resize(_processors())
    return loaded


def compiled() -> bool:
    """Say whether operations run in C here."""
    return library() is not None


def use_threads(count: int) -> None:
    """Set how many threads an operation may use from now on, the caller's included."""
    if loaded := library():
        loaded.resize(count)


def features() -> set[str]:
    """Return what the processor has of what tiers need. Raises CompileError or OSError."""
    handle = _loaded("probe", [HERE / "probe.c"], ())
    handle.features.restype = ctypes.c_char_p
    names: bytes = handle.features()
    return set(names.decode().split())


def tiers() -> list[str]:
    """List the tiers that this machine runs, best first. Raises CompileError or OSError."""
    has = features()
    return [name for name, tier in TIERS.items() if tier.needs <= has]


def use_tier(name: str) -> None:
    """Compile and load this tier for the whole process, in the place of the best one.

    name: "auto", which changes nothing, or one of TIERS; on a GPU none is loaded. Raises, in one
    sentence, ValueError where the machine lacks it, RuntimeError where another is loaded already.
    """
    if name == AUTO:
        return
    try:
        available = tiers()
    except (CompileError, OSError) as error:
        raise ValueError(f"the CPU tier {name} cannot be compiled here: {error}") from error
    if name not in available:
        has = ", ".join(available)
        raise ValueError(f"the CPU tier {name} does not run on this machine, which has: {has}")
    if library.cache_info().currsize and tier() not in ("", name):
        raise RuntimeError(f"the CPU tier {tier()} is in use already, not {name}")
    _chosen.set(name)
    library()


def tier() -> str:
    """Return the name of the tier in use; empty where operations do not run in C."""
    loaded = library()
    return "" if loaded is None else loaded.tier


def load(tier: str) -> Library:
    """Load a tier, compiled unless the cache has it. Raises CompileError or OSError."""
    handle = _loaded(tier, sources(), TIERS[tier].flags, NOTICE, sorted(features()))
    return Library(tier, handle, handle.op_lanes())


def sources() -> list[Path]:
    """List all C files but the probe: this folder's, and the operations' in their rooms."""
    return sorted(path for path in HERE.parent.glob("*/*.c") if path.name != "probe.c")


def _loaded(
    name: str,
    files: Sequence[Path],
    flags: Sequence[str],
    notice: str = "",
    machine: Sequence[str] = (),
) -> ctypes.CDLL:
    """Build and load; a file that does not load, as it may be after a crash, is built again."""
    path = build(name, files, flags, notice, machine)
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        path.unlink(missing_ok=True)
        return ctypes.CDLL(str(build(name, files, flags, notice, machine)))


def build(
    name: str,
    files: Sequence[Path],
    flags: Sequence[str],
    notice: str = "",
    machine: Sequence[str] = (),
) -> Path:
    """Return a library's path, compiled after a notice if not cached. Raises CompileError.

    machine: what the processor has, so that machines that share a home build one each.
    """
    command = compiler()
    if command[1:] == [*ZIG]:
        flags = [ZIG_FLAGS.get(flag, flag) for flag in flags]
    key = _key([*command, *FLAGS, *flags, *machine, *platform.libc_ver()], files)
    folder = cache_folder()
    path = folder / f"{name}-{key}.so"
    if not path.exists():
        with locked(folder / f"{name}.lock"):
            if not path.exists():
                kept = AGAIN.format(folder) if folder == _temporary() else ONCE
                with _told(notice.format(kept), len(files)) as compiled_one:
                    _compile(command, files, flags, path, compiled_one)
                forget(folder.glob(f"{name}-*.so"))
    return path


@contextmanager
def _told(notice: str, files: int) -> Iterator[Callable[[], None]]:
    """Print a notice, on a terminal with how many files are compiled: whoever compiles one calls.

    It takes the place of what stands on the terminal's line, and ends it.
    """
    done = itertools.count(1)
    if not notice or not sys.stderr.isatty():
        if notice:
            print(notice, file=sys.stderr)
        yield lambda: None
        return

    def show(count: int) -> None:
        text = f"\r\x1b[2K{notice} {count} of {files} files"
        print(text, end="", file=sys.stderr, flush=True)

    show(0)
    yield lambda: show(next(done))
    print(file=sys.stderr)


def forget(paths: Iterable[Path]) -> None:
    """Remove what no version in use has needed for so long; else it is built again."""
    for path in paths:
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > CACHE_SECONDS:
                path.unlink()


def compiler() -> list[str]:
    """Return the system's C compiler, or ziglang's clang. Raises CompileError for neither."""
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return [path]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, *ZIG]
    raise CompileError("there is no C compiler")


def cache_folder() -> Path:
    """Return the first folder that can be written, and whose files the system runs.

    In turn $XDG_CACHE_HOME/bessemer, ~/.cache/bessemer, and a folder of this user's below the
    temporary one. Raises CompileError where none of them does.
    """
    complaints = []
    for folder in (
        Path(os.path.expandvars("${XDG_CACHE_HOME}/bessemer")),
        Path(os.path.expanduser("~/.cache/bessemer")),
        _temporary(),
    ):
        if folder.is_absolute():  # it is not where the variable, or a home, is not there
            if not (complaint := _unusable(folder)):
                return folder
            complaints.append(f"{folder} {complaint}")
    raise CompileError(f"there is no folder for the compiled kernels: {', '.join(complaints)}")


def _temporary() -> Path:
    return Path(tempfile.gettempdir()) / f"bessemer-{os.getuid()}"


def _unusable(folder: Path) -> str:
    """Return what keeps compiled kernels from a folder, which is made; empty if nothing does."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            return "is another user's"
        with tempfile.TemporaryFile(dir=folder) as file:
            return "" if _is_code(file) else "is on a file system mounted noexec"
    except OSError as error:
        return f"cannot be written ({error.strerror})"


def _is_code(file: BinaryIO) -> bool:
    """Return whether the system maps a file as code, as loading a library does it."""
    file.truncate(mmap.PAGESIZE)
    if platform.system() != "Linux":  # an unsigned file may be refused where a library is not
        return True
    try:
        mmap.mmap(
            file.fileno(), mmap.PAGESIZE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC
        ).close()
    except PermissionError:
        return False
    return True


def _key(command: Sequence[str], files: Sequence[Path]) -> str:
    digest = hashlib.sha256("\0".join([*command, platform.machine()]).encode())
    for path in sorted([*files, *HERE.parent.glob("*/*.h")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock by which one process compiles, and others wait for what it builds."""
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compile(
    command: list[str],
    files: Sequence[Path],
    flags: Sequence[str],
    path: Path,
    compiled_one: Callable[[], None],
) -> None:
    from concurrent.futures import ThreadPoolExecutor  # here, as most processes compile nothing

    def run(step: list[str]) -> None:
        _run(step)
        compiled_one()

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        objects = [Path(folder) / f"{source.stem}.o" for source in files]
        steps = [
            [*command, *FLAGS, *flags, f"-I{HERE}", "-c", str(source), "-o", str(target)]
            for source, target in zip(files, objects, strict=True)
        ]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            list(threads.map(run, steps))
        linked = Path(folder) / path.name
        _run([*command, "-shared", "-pthread", *map(str, objects), "-lm", "-o", str(linked)])
        with linked.open("rb") as file:
            os.fsync(file.fileno())  # loading half a file ends the process: it must not appear
        linked.replace(path)


def _run(step: list[str]) -> None:
    import subprocess

    done = subprocess.run(step, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        complaint = next((line for line in lines if "error" in line), lines[0])
        raise CompileError(f"{Path(step[0]).name} failed: {complaint}")


def address(array: "mx.array | np.ndarray") -> int:
    """Return where an array's values begin: it must be evaluated, contiguous and not empty."""
    buffer: Any = array  # MLX's stubs do not say that it is one
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def optional(array: mx.array | None) -> int | None:
    return None if array is None else address(array)


class ARRAY:
    """A C function's argument type: an array as `address` takes it, or None."""

    @staticmethod
    def from_param(array: Any) -> Any:
        return None if array is None else ctypes.byref(ctypes.c_char.from_buffer(array))


class VALUES:
    """A C function's argument type: any array that is not empty, passed in float32, or None."""

    @staticmethod
    def from_param(array: Any) -> Any:
        if array is None:
            return None
        buffer: Any = ready(array)
        return ctypes.byref(ctypes.c_char.from_buffer(buffer))


def ready(x: mx.array) -> mx.array:
    """Return the same values in float32, evaluated and contiguous: what `address` takes."""
    if x.dtype != mx.float32:
        x = x.astype(mx.float32)
    mx.eval(x)
    buffer: Any = x
    if not memoryview(buffer).c_contiguous:  # a slice along the last axis, or a transpose
        x = mx.contiguous(x)
        mx.eval(x)
    return x


def empty(*shape: int, dtype: type = np.float32) -> "mx.array | np.ndarray":
    """Allocate results; `mx.array` copies them quickly, `mx.zeros` would wait 50 us."""
    recorder = recording.get()
    return np.empty(shape, dtype) if recorder is None else recorder.empty(shape, dtype)


def output(*shape: int) -> "mx.array | np.ndarray":
    """Allocate float32 results, as an MLX array where a copy would cost more than the wait."""
    if math.prod(shape) < LARGE or recording.get() is not None:
        return empty(*shape)
    out = mx.zeros(shape)
    mx.eval(out)
    return out


def array(out: "mx.array | np.ndarray") -> mx.array:
    """Turn what `empty` or `output` gave into an MLX array, once it is written."""
    return out if isinstance(out, mx.array) else mx.array(out)


def reshaped(x: mx.array, *shape: int) -> mx.array:
    """Return the same values in another shape: copied, unless calls are recorded, for that is
    quicker than to wait for MLX's view."""
    if (recorder := recording.get()) is not None:
        return recorder.view(x, shape)
    return mx.array(np.asarray(ready(x)).reshape(shape))
