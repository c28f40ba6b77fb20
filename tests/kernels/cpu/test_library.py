"""The C kernels' library: compiled once, found again, done without, and quiet when idle."""

import fnmatch
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.cpu import library
from bessemer.kernels.linear.linear import linear
from bessemer.kernels.linear.weight import Dense

from ..tiers import NATIVE

ROOT = Path(__file__).parents[3]
GUIDE = ROOT / "engine" / "guide"
CC = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
compiles = pytest.mark.skipif(CC is None, reason="there is no C compiler")
TINY = (
    '#include "export.h"\n'
    "EXPORT int op_lanes(void) { return 1; }\n"
    "EXPORT int answer(void) { return %d; }\n"
)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source that stands for the kernels, and a cache of its own."""
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(library, "cache_folder", lambda: cache)
    source = tmp_path / "tiny.c"
    source.write_text(TINY % 42)
    monkeypatch.setattr(library, "sources", lambda: [source])
    return source


def answer(loaded: library.Library) -> int:
    return int(loaded.handle.answer())


@compiles
def test_a_library_is_compiled_once(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(library.load("plain")) == 42
    assert capsys.readouterr().err == library.NOTICE.format(library.ONCE) + "\n"
    (path,) = library.cache_folder().glob("plain-*.so")
    written = path.stat().st_mtime_ns
    assert answer(library.load("plain")) == 42
    assert capsys.readouterr().err == ""
    assert path.stat().st_mtime_ns == written


@compiles
def test_source_flags_and_compiler_make_another_library(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CC is not None
    libraries = [library.build("tiny", [tiny], ()), library.build("tiny", [tiny], ("-DMORE",))]
    tiny.write_text(TINY % 43)
    libraries.append(library.build("tiny", [tiny], ()))
    other = tmp_path / "another-cc"
    other.symlink_to(CC)
    monkeypatch.setattr(library, "compiler", lambda: [str(other)])
    libraries.append(library.build("tiny", [tiny], ()))
    assert len(set(libraries)) == 4
    assert all(path.exists() for path in libraries)


@compiles
def test_of_two_processes_one_compiles(tmp_path: Path) -> None:
    source, log, bin = tmp_path / "tiny.c", tmp_path / "log", tmp_path / "bin"
    source.write_text(TINY % 42)
    bin.mkdir()
    (bin / "cc").write_text(f'#!/bin/sh\necho "$$" >> {log}\nsleep 0.2\nexec {CC} "$@"\n')
    (bin / "cc").chmod(0o755)
    code = (
        "import sys; from pathlib import Path; from bessemer.kernels.cpu import library;"
        "print(library.build('tiny', [Path(sys.argv[1])], (), library.NOTICE))"
    )
    environment = {"PATH": f"{bin}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    both = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", code, str(source)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len({out for out, _ in printed}) == 1
    assert sorted(err for _, err in printed) == ["", library.NOTICE.format(library.ONCE) + "\n"]
    assert len(log.read_text().splitlines()) == 2  # the source, and the linking
    left = sorted(path.suffix for path in (tmp_path / ".cache" / "bessemer").iterdir())
    assert left == [".lock", ".so"]


@compiles
@pytest.mark.parametrize("content", [b"", b"not a library"])
def test_a_broken_file_is_made_again(content: bytes, tiny: Path) -> None:
    path = library.build("plain", [tiny], library.TIERS["plain"].flags)
    path.write_bytes(content)
    assert answer(library.load("plain")) == 42


@compiles
def test_a_compiler_that_fails_is_quoted(tiny: Path) -> None:
    tiny.write_text("#error nothing to see here\n")
    with pytest.raises(library.CompileError, match=r"failed: .*nothing to see here"):
        library.load("plain")
    assert not list(library.cache_folder().glob("plain-*.so"))


def test_a_compiler_that_cannot_say_why(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "compiler", lambda: [sys.executable, "-c", "exit(1)"])
    with pytest.raises(library.CompileError, match="no message"):
        library.load("plain")


PROCESSORS = {
    "": ["plain"],
    "avx2 bmi2 f16c": ["plain"],  # without fma
    "avx2 bmi2 f16c fma": ["avx2", "plain"],
    "avx2 bmi2 f16c fma avx512f avx512bw avx512dq avx512vl": ["avx2", "plain"],  # the first of them
    "avx2 bmi2 f16c fma avx512f avx512bw avx512dq avx512vl avx512vnni avx512vbmi": [
        *("avx512", "avx2", "plain"),
    ],
    "fp16 dotprod": ["neon", "plain"],
}


@pytest.mark.parametrize("features", PROCESSORS)
def test_a_processor_has_the_tiers_whose_features_it_has(
    features: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "features", lambda: set(features.split()))
    assert library.tiers() == PROCESSORS[features]


@compiles
def test_the_probe_knows_the_features_by_the_systems_names() -> None:
    described = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not described.exists():
        pytest.skip("flags of x86-64 in /proc/cpuinfo")
    line = next(line for line in described.read_text().splitlines() if line.startswith("flags"))
    flags = {flag.replace("avx512_", "avx512") for flag in line.split()}
    assert library.features() == flags & library.TIERS["avx512"].needs


@pytest.mark.parametrize("name", ["neon", "avx512", "fast"])
def test_a_tier_that_the_machine_lacks_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "features", lambda: {"avx2", "bmi2", "f16c", "fma"})
    before = library.tier()
    with pytest.raises(ValueError, match=f"{name} does not run on this machine.*: avx2, plain$"):
        library.use_tier(name)
    assert library.tier() == before


def test_a_tier_without_a_compiler_is_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_compiler(monkeypatch)
    with pytest.raises(ValueError, match="plain cannot be compiled here: there is no C compiler"):
        library.use_tier("plain")
    library.use_tier("auto")


@compiles
@pytest.mark.parametrize("name", NATIVE)
def test_the_tier_that_was_asked_for_runs_in_every_thread(name: str) -> None:
    code = (
        "import sys, threading; from bessemer.kernels.cpu.library import *\n"
        "use_tier(sys.argv[1]); use_tier(sys.argv[1]); use_tier('auto')\n"
        "thread = threading.Thread(target=lambda: print(tier())); thread.start(); thread.join()"
    )
    command = [sys.executable, "-P", "-c", code, name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{name}\n"


@compiles
def test_on_a_gpu_a_tier_is_accepted_and_not_compiled() -> None:
    code = (
        "import mlx.core as mx; from bessemer.kernels.cpu.library import *\n"
        "mx.default_device = lambda: mx.Device(mx.DeviceType.gpu)\n"
        "use_tier('plain'); use_tier('plain'); print([tier()])"
    )
    command = [sys.executable, "-P", "-c", code]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "['']\n"


@compiles
def test_another_tier_than_the_one_in_use_is_too_late() -> None:
    used = library.tier()
    other = next((name for name in library.tiers() if name != used), None)
    if not used or other is None:
        pytest.skip("this machine runs one tier")
    with pytest.raises(RuntimeError, match=f"{used} is in use already, not {other}"):
        library.use_tier(other)
    assert library.tier() == used


def without_compiler(monkeypatch: pytest.MonkeyPatch, ziglang: bool = False) -> None:
    spec = importlib.util.find_spec("json")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if ziglang else None)


def test_without_a_compiler_one_warning_says_how_to_mend_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.DeviceType.cpu))
    without_compiler(monkeypatch)
    assert library.library.__wrapped__() is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: the CPU kernels are not used")
    assert "there is no C compiler" in line
    assert "gcc or clang" in line
    assert "pip install ziglang" in line


def test_a_gpu_needs_no_library(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.DeviceType.gpu))
    assert library.library.__wrapped__() is None
    assert capsys.readouterr().err == ""


def test_ziglang_stands_in_for_a_compiler(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """zig would take this machine's instructions into every tier, and knows no -march of theirs."""
    without_compiler(monkeypatch, ziglang=True)
    steps: list[list[str]] = []
    monkeypatch.setattr(library, "_compile", lambda *step: steps.append([*step[0], *step[2]]))
    library.build("neon", [tiny], library.TIERS["neon"].flags)
    library.build("avx2", [tiny], library.TIERS["avx2"].flags)
    zig = [sys.executable, "-m", "ziglang", "cc", "-mcpu=baseline"]
    assert steps[0] == [*zig, "-mcpu=generic+v8_2a+dotprod+fullfp16"]
    assert steps[1] == [*zig, *library.TIERS["avx2"].flags]


@pytest.fixture
def below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, another cache and a temporary folder, each below one folder."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name in ("home", "xdg", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path


def spoil(folder: Path) -> None:
    """Put a file in the folder's place, so that nothing can be made in it."""
    folder.rmdir()
    folder.touch()


def test_the_cache_is_where_the_environment_says_else_at_home_else_temporary(
    below: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert library.cache_folder() == below / "home/.cache/bessemer"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert library.cache_folder() == below / "home/.cache/bessemer"
    monkeypatch.setenv("XDG_CACHE_HOME", str(below / "xdg"))
    assert library.cache_folder() == below / "xdg/bessemer"
    shutil.rmtree(below / "xdg/bessemer")
    spoil(below / "xdg")
    assert library.cache_folder() == below / "home/.cache/bessemer"
    shutil.rmtree(below / "home/.cache")
    spoil(below / "home")
    folder = below / "tmp" / f"bessemer-{os.getuid()}"
    assert library.cache_folder() == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()
    spoil(below / "tmp")
    with pytest.raises(library.CompileError) as caught:
        library.cache_folder()
    said = str(caught.value)
    assert said.startswith("there is no folder for the compiled kernels: ")
    assert said.count("cannot be written (Not a directory)") == 3
    assert all(str(below / name) in said for name in ("home", "xdg", "tmp"))


@compiles
def test_a_user_without_a_home(
    below: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    folder = below / "tmp" / f"bessemer-{os.getuid()}"
    assert library.cache_folder() == folder
    source = below / "tiny.c"
    source.write_text(TINY % 41)
    library.build("tiny", [source], (), library.NOTICE)
    said = capsys.readouterr().err
    assert "(once)" not in said and f"again whenever {folder} is emptied; XDG_CACHE_HOME" in said


def test_a_folder_of_another_user_is_left_alone(
    below: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, user = below / "home/.cache/bessemer", os.getuid()
    folder.mkdir(parents=True)
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    with pytest.raises(library.CompileError, match=r"home/\.cache/bessemer is another user's"):
        library.cache_folder()


@pytest.fixture
def noexec(tmp_path: Path) -> Iterator[Path]:
    """A folder in which the system runs nothing, where this user may mount one."""
    folder = tmp_path / "noexec"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "noexec,size=64m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user cannot mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@compiles
def test_a_home_from_which_nothing_is_run(noexec: Path, tmp_path: Path) -> None:
    """A process that has such a home loads its kernels all the same."""
    code = (
        "import sys; from pathlib import Path; from bessemer.kernels.cpu import library;"
        "print(len(library.features()) >= 0, library.cache_folder())"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": str(noexec), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    folder = tmp_path / f"bessemer-{os.getuid()}"
    assert done.stdout == f"True {folder}\n", done.stderr
    assert [path.suffix for path in sorted(folder.iterdir())] == [".so", ".lock"]
    environment["TMPDIR"] = str(noexec)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert f"{noexec}/.cache/bessemer is on a file system mounted noexec" in done.stderr


def test_a_system_that_maps_no_code_from_a_folder(
    below: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where nothing can be mounted: the system's answer is planted."""
    maps = library.mmap.mmap

    def refused(number: int, *arguments: int) -> object:
        if "home" in os.readlink(f"/proc/self/fd/{number}"):
            raise PermissionError(1, "Operation not permitted")
        return maps(number, *arguments)

    if platform.system() != "Linux":
        pytest.skip("elsewhere nothing is mapped")
    monkeypatch.setattr(library.mmap, "mmap", refused)
    assert library.cache_folder() == below / "tmp" / f"bessemer-{os.getuid()}"


@compiles
def test_machines_that_share_a_home_have_a_library_each(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for machine in ({"avx2"}, {"avx2", "avx512f"}, {"avx2"}):
        monkeypatch.setattr(library, "features", lambda machine=machine: machine)
        assert answer(library.load("plain")) == 42
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.17"))
    library.load("plain")
    assert len(list(library.cache_folder().glob("plain-*.so"))) == 3


def test_every_source_is_compiled_and_packaged() -> None:
    files = {path for path in (ROOT / "kernels").rglob("*.c") if path.name != "probe.c"}
    assert set(library.sources()) == files
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = setup["package-data"]["bessemer.kernels"]
    for path in (*files, library.HERE / "probe.c", *(ROOT / "kernels").rglob("*.h")):
        name = path.relative_to(ROOT / "kernels").as_posix()
        assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), path


def test_the_built_in_model_answers_without_a_compiler(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
sys.modules["ziglang"] = None  # it is a compiler too
from bessemer.engine.request import Request, Sampling, Token
from bessemer.engine.serving import load
from bessemer.engine.settings import Settings
from bessemer.kernels.cpu.library import compiled
model = load(Path(sys.argv[1]), Settings(max_batch=1, queue=1, chunk=64), memory=10**10)
tokens = model.tokenizer.encode("What is this?")
model.engine.submit(Request(id=1, tokens=tokens, max_tokens=5, sampling=Sampling(temperature=0)))
print(compiled(), sum(isinstance(event, Token) for event in model.engine.run()))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(GUIDE)],
        env={"PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if mx.default_device().type == mx.DeviceType.cpu:
        assert done.stdout.split() == ["False", "5"]
        assert done.stderr.count("warning:") == len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not library.compiled(), reason="there are no C kernels")
def test_threads_sleep_when_there_is_nothing_to_do() -> None:
    """The quietest of several stretches counts, as other threads of this process may have work."""
    weight, x = Dense(mx.array(np.ones((512, 512), np.float32))), mx.ones((64, 512))
    shares: list[float] = []
    for _ in range(5):
        linear(x, weight)
        begun, used = time.perf_counter(), time.process_time()
        time.sleep(0.3)
        shares.append((time.process_time() - used) / (time.perf_counter() - begun))
        if shares[-1] < 0.05:
            break
    assert min(shares) < 0.05
