"""Clang on this machine, and a cache of what it compiles kernels to.

Flags: every operation rounds once to its own type, literals are float, and the language is that of
clang's SYCL device mode, whose plain references take Metal's address spaces.
"""

import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

from ..cpu.library import cache_folder, forget, locked
from .host import HEADER_LINE
from .instrument import Site, instrument
from .options import MetalCompileError, Mode, SimulatorError

HERE = Path(__file__).parent
HEADERS = HERE  # where msl_preamble.h is
OLDEST = 17  # of clang: address spaces, __bf16 and _Float16 as Metal needs them
NEWEST = 30

# What Metal source may include by name; each is the whole language.
FORWARDED = (
    *("metal_stdlib", "metal_math", "metal_common", "metal_integer", "metal_relational"),
    *("metal_geometric", "metal_pack", "metal_atomic", "metal_simdgroup", "metal_quadgroup"),
    *("metal_simdgroup_matrix", "metal_compute", "metal_limits", "metal_type_traits"),
    *("metal_numeric", "metal_extended_vector", "metal_matrix", "metal_types", "metal_config"),
    *("metal_assert", "metal_array", "metal_uniform", "metal_logging"),
)

LANGUAGE = (
    *("-x", "c++", "-std=c++17", "-nostdinc", "-fPIC", "-fno-exceptions", "-fno-rtti"),
    *("-fno-math-errno", "-fno-stack-protector", "-fno-strict-aliasing"),
    *("-Xclang", "-ffloat16-excess-precision=none"),
    *("-Xclang", "-fbfloat16-excess-precision=none", "-Xclang", "-cl-single-precision-constant"),
    *("-Wno-unknown-attributes", "-Wno-ignored-attributes", "-Wno-unused-value"),
    *("-fdiagnostics-absolute-paths", "-fno-caret-diagnostics"),
)
SYSTEM = "apple-macosx" if sys.platform == "darwin" else "unknown-linux-gnu"
DEVICE_MODE = (
    *("-Xclang", "-fsycl-is-device", "-Xclang", "-ffake-address-space-map"),
    # Without the host's own name clang 22 fails on functions of bfloat.
    *("-Xclang", "-aux-triple", "-Xclang", f"{platform.machine()}-{SYSTEM}"),
)
# The device mode lets a device pointer pass for a thread's own: without it, clang complains.
STRICT = (
    *(*LANGUAGE, "-fsyntax-only", "-ferror-limit=0", "-Wimplicit-float-conversion"),
    *("-Wuninitialized", "-Wsometimes-uninitialized"),
)
CHECKED = (
    *("-DMSL_CHECK=1", "-gline-tables-only"),
    *("-fno-vectorize", "-fno-slp-vectorize", "-fno-unroll-loops"),
)
# Clang checks an index into an array of a known length. Where it may reason that a loop cannot go
# beyond one, or where a place is a constant, what is wrong has vanished before instrument.py sees.
BOUNDS = (
    *("-fsanitize=array-bounds", "-fno-sanitize-recover=array-bounds", "-fno-strict-overflow"),
    *("-fno-builtin-memset", "-fno-builtin-memcpy", "-fno-builtin-memmove"),
    "-DMLX_MTL_PRAGMA_UNROLL=",
    "-ftrivial-auto-var-init=pattern",  # what a thread never wrote is NaN, or a large number
)
UNROLLED = re.compile(
    r'#[ \t]*pragma[^\n]*\bunroll\b[^\n]*|_Pragma\s*\("[^"\n]*\bunroll\b[^"\n]*"\)'
)
# This machine's instructions, but for the conversions to bfloat that flush subnormal numbers.
NATIVE_X86 = ("-march=native", "-mno-avx512bf16", "-mno-avxneconvert")
NATIVE = {"x86_64": NATIVE_X86, "AMD64": NATIVE_X86}
NATIVE_ELSEWHERE = ("-mcpu=native",)
RUNTIME = (
    *("-x", "c++", "-std=c++17", "-O2", "-fPIC", "-shared", "-pthread", "-fno-exceptions"),
    *("-fno-rtti", "-fno-sanitize=all", "-fno-stack-protector", "-fvisibility=hidden"),
    *("-U_FORTIFY_SOURCE", "-Wall", "-Wextra"),  # fortified longjmp refuses to change stacks
)

MISSING = (
    "the Metal simulator needs a clang that this machine does not have: "
    f"{sys.executable} -m pip install ziglang brings one"
)
GROUP = re.compile(r"^.*\berror: .*(?:\n(?!.*\berror: ).*)*", re.M)
FOREIGN = re.compile(
    r"error: (?:cannot initialize (?!object).*(?:device|constant|threadgroup|address_space)"
    r"|.*changes address space)"
)
TO_BFLOAT = re.compile(
    r"^(?!.*\bmsl_\w+\.h:).*warning: implicit conversion .* to '(?:bfloat|__bf16)'.*", re.M
)
NO_BFLOAT = "Metal does not convert to bfloat implicitly: write bfloat(x)"
UNWRITTEN = re.compile(
    r"^(?!.*\bmsl_\w+\.h:).*warning: variable .* is (?:used )?uninitialized .*", re.M
)
HARMLESS_NOTE = re.compile(r"\(the implicit|constructor|'this' ")
HEADER_PLACE = re.compile(r"(header\.metal:)(\d+)")


@dataclass(frozen=True, slots=True)
class Toolchain:
    compile: tuple[str, ...]  # a bare clang
    link: tuple[str, ...]  # objects into a shared library
    build: tuple[str, ...]  # C++ against this system's libraries
    identity: str


@dataclass(frozen=True, slots=True)
class CompiledKernel:
    """A compiled kernel; sites and blocks where it is instrumented."""

    path: Path
    sites: tuple[Site, ...]
    blocks: tuple[dict[str, int], ...]


@cache
def toolchain() -> Toolchain:
    """Return ziglang's clang, else a system's that is new enough. Raises SimulatorError."""
    package = importlib.util.find_spec("ziglang")
    if package and package.origin:
        zig = str(Path(package.origin).parent / ("zig.exe" if os.name == "nt" else "zig"))
        return _with_linker((zig, "clang"), (zig, "ld.lld"), (zig, "cc"), zig)
    for suffix in (*(f"-{number}" for number in range(NEWEST, OLDEST - 1, -1)), ""):
        clang, lld = shutil.which(f"clang{suffix}"), shutil.which(f"ld.lld{suffix}")
        if clang and (lld or sys.platform == "darwin") and _version(clang) >= OLDEST:
            return _with_linker((clang,), (lld or "",), (clang,), clang)
    raise SimulatorError(MISSING)


def require() -> None:
    """Raise SimulatorError where nothing can compile kernels."""
    toolchain()


def _with_linker(
    clang: tuple[str, ...], lld: tuple[str, ...], build: tuple[str, ...], path: str
) -> Toolchain:
    link = (*lld, "-shared")
    if sys.platform == "darwin":
        link = (*build, "-shared", "-undefined", "dynamic_lookup")
    status = Path(path).stat()
    identity = f"{path} {status.st_size} {int(status.st_mtime)} {_processor()}"
    return Toolchain(clang, link, build, identity)


def _version(clang: str) -> int:
    done = subprocess.run([clang, "-dumpversion"], capture_output=True, text=True, check=False)
    return int(done.stdout.split(".")[0] or 0) if done.stdout[:1].isdigit() else 0


@cache
def _processor() -> str:
    """Describe the processor: code for this machine's instructions does not run on another."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().split("\n\n")[0].splitlines() if described.exists() else []
    facts = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return " ".join([platform.machine(), platform.processor(), *facts])


@cache
def folder() -> Path:
    path = cache_folder() / "simulator"
    path.mkdir(exist_ok=True)
    return path


@cache
def _digest(*patterns: str) -> str:
    """Digest the compiler and those of our files that decide what it compiles a text to."""
    digest = hashlib.sha256(toolchain().identity.encode())
    for path in sorted({path for pattern in patterns for path in HERE.glob(pattern)}):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _key(*parts: str) -> str:
    tools = _digest("msl_*.h", "compiler.py", "host.py", "instrument.py")
    return hashlib.sha256("\0".join([tools, *parts]).encode()).hexdigest()[:24]


@cache
def _forwarding() -> Path:
    path = folder() / f"include-{_key()}"
    if path.exists():
        return path
    with tempfile.TemporaryDirectory(dir=folder()) as temporary:
        inside = Path(temporary) / "include"
        inside.mkdir()
        for name in FORWARDED:
            (inside / name).write_text('#include "msl_stdlib.h"\n')
        with locked(folder() / "include.lock"):
            if not path.exists():
                inside.replace(path)
    return path


def runtime_library() -> Path:
    path = folder() / f"runtime-{_digest('runtime*', 'compiler.py')[:24]}.so"
    if not path.exists():
        with locked(folder() / "runtime.lock"):
            if not path.exists():
                _build_runtime(path)
                for pattern in ("*.so", "*.json"):
                    forget(folder().glob(pattern))
    return path


def _build_runtime(path: Path) -> None:
    sources = sorted(map(str, HERE.glob("runtime*.cpp")))
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        linked = Path(temporary) / path.name
        execute([*toolchain().build, *RUNTIME, *_native(), *sources, "-o", str(linked)], temporary)
        _publish(linked, path)


def _native() -> tuple[str, ...]:
    return NATIVE.get(platform.machine(), NATIVE_ELSEWHERE)


def kernel_library(text: str, mode: Mode, flags: tuple[str, ...]) -> CompiledKernel:
    """Compile a `host_text` to a shared library. Raises MetalCompileError."""
    key = _key(text, mode, *flags)
    library, notes = folder() / f"{key}.so", folder() / f"{key}.json"
    if not (library.exists() and notes.exists()):
        with locked(folder() / f"kernels-{key[0]}.lock"):
            if not (library.exists() and notes.exists()):
                with tempfile.TemporaryDirectory(dir=folder()) as temporary:
                    _make(text, mode, flags, Path(temporary), (library, notes))
    read = json.loads(notes.read_text())
    return CompiledKernel(
        library, tuple(Site(*site) for site in read["sites"]), tuple(read["blocks"])
    )


def _make(
    text: str, mode: Mode, flags: tuple[str, ...], inside: Path, targets: tuple[Path, Path]
) -> None:
    checked = mode == "check"
    (inside / "kernel.cpp").write_text(UNROLLED.sub("", text) if checked else text)
    check_spaces("kernel.cpp", inside, ())
    clang = (*toolchain().compile, *language(flags))
    sites: list[Site] = []
    blocks: list[dict[str, int]] = []
    if mode != "fast":
        steps = ("-S", "-emit-llvm", "kernel.cpp", "-o", "kernel.ll")
        bounds = BOUNDS if checked else ()
        execute([*clang, "-O2", *CHECKED, *bounds, *steps], inside)
        result = instrument((inside / "kernel.ll").read_text(), checked)
        sites, blocks = result.sites, result.blocks
        (inside / "checked.ll").write_text(result.text)
        plain = ("-x", "ir", "-O1", "-fPIC", *_native(), "-Wno-override-module")
        execute([*toolchain().compile, *plain, "-c", "checked.ll", "-o", "kernel.o"], inside)
    else:
        execute([*clang, "-O2", "-c", "kernel.cpp", "-o", "kernel.o"], inside)
    execute([*toolchain().link, "kernel.o", "-o", "kernel.so"], inside)
    notes = inside / "notes.json"
    notes.write_text(json.dumps({"sites": [astuple(site) for site in sites], "blocks": blocks}))
    _publish(notes, targets[1])
    _publish(inside / "kernel.so", targets[0])


def language(flags: tuple[str, ...]) -> tuple[str, ...]:
    return (*LANGUAGE, *DEVICE_MODE, *flags, *_native(), *_includes())


def _includes() -> tuple[str, ...]:
    return (f"-I{HEADERS}", f"-I{_forwarding()}")


def check_spaces(name: str, inside: Path, include: Sequence[str]) -> None:
    """Raise MetalCompileError for a pointer without its address space, a variable unwritten."""
    command = [*toolchain().compile, *STRICT, *_includes(), *include, name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=inside, check=False)
    wrong = [group for group in GROUP.findall(done.stderr) if _is_foreign(group)]
    wrong += [f"{line}\n{NO_BFLOAT}" for line in TO_BFLOAT.findall(done.stderr)]
    wrong += UNWRITTEN.findall(done.stderr)
    if wrong:
        raise MetalCompileError(readable("\n".join(wrong), inside))


def _is_foreign(group: str) -> bool:
    first, *notes = group.splitlines()
    if FOREIGN.search(first):
        return True
    return "no matching function" in first and any(
        "generic address space" in note and not HARMLESS_NOTE.search(note) for note in notes
    )


def _publish(source: Path, target: Path) -> None:
    with source.open("rb") as file:
        os.fsync(file.fileno())  # loading half a file ends the process: it must not appear
    source.replace(target)


def execute(command: Sequence[str], inside: Path | str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=inside, check=False)
    if done.returncode:
        raise MetalCompileError(readable(done.stderr or done.stdout, inside))


def readable(said: str, inside: Path | str) -> str:
    """Drop the temporary folder from a message, and number the header's lines as in the header."""
    said = said.replace(f"{inside}/", "").strip()
    return HEADER_PLACE.sub(lambda at: f"{at[1]}{int(at[2]) % HEADER_LINE}", said)
