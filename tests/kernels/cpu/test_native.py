"""The C kernels beside plain loops: under sanitizers on each instruction set, on ARM emulated."""

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from bessemer.kernels.cpu.library import FLAGS, TIERS, CompileError, compiler, sources

from ..tiers import NATIVE

HERE = Path(__file__).parent / "native"
KERNELS = Path(__file__).parents[3] / "kernels"
QEMU, CROSS = "qemu-aarch64-static", "aarch64-linux-gnu-gcc"
CHECKED = tuple(flag for flag in FLAGS if flag not in ("-O3", "-fPIC"))
MEMORY = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
THREADS = ("-fsanitize=thread",)
DAYS = 7  # that an object is kept

OVERFLOW = """
#include <stdlib.h>
int main(int argc, char **argv) {
    int *four = malloc(4 * sizeof(int));
    four[0] = argc;
    return four[argc + 3] == 12345 && argv == 0;
}
"""
SHIFT = "int main(int argc, char **argv) { return 1 << (argc + 31) == 5 && argv == 0; }"
RACE = """
#include <pthread.h>
static int shared;
static void *add(void *unused) { shared++; return unused; }
int main(void) {
    pthread_t thread;
    pthread_create(&thread, 0, add, 0);
    shared++;
    pthread_join(thread, 0);
    return 0;
}
"""


@dataclass(frozen=True)
class Build:
    name: str
    flags: tuple[str, ...]
    emulated: bool = False

    def command(self) -> list[str]:
        cc = [CROSS] if self.emulated else compiler()
        return [*cc, *CHECKED, "-O1", "-g", f"-I{KERNELS / 'cpu'}", f"-I{HERE}", *self.flags]

    def run(self, program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        emulator = [QEMU, "-L", "/usr/aarch64-linux-gnu"] if self.emulated else []
        return subprocess.run(
            [*emulator, str(program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


BUILDS = [
    *(Build(f"{tier}-memory", (*TIERS[tier].flags, *MEMORY)) for tier in NATIVE if tier),
    # Who waits for whom does not depend on the width of a vector: one instruction set is enough.
    *(Build(f"{tier}-threads", (*TIERS[tier].flags, *THREADS)) for tier in NATIVE[:1] if tier),
    Build("arm-neon", TIERS["neon"].flags, emulated=True),
]


@pytest.fixture(scope="session")
def programs(pytestconfig: pytest.Config) -> Iterator[dict[Build, Future[Path]]]:
    """The driver of every build, compiled side by side; one object alone may take 30 s.

    Objects are kept by content: a run in which nothing changed compiles nothing.
    """
    assert pytestconfig.cache is not None
    folder = Path(pytestconfig.cache.mkdir("native"))
    for old in folder.iterdir():
        if time.time() - old.stat().st_mtime > DAYS * 86400:
            old.unlink(missing_ok=True)
    in_cpu = sorted(sources(), key=lambda path: path.parent != KERNELS / "cpu")
    files = [HERE / "driver.c", *in_cpu, *(HERE / f"{name}.c" for name in cases())]
    with (
        ThreadPoolExecutor(os.cpu_count()) as steps,
        ThreadPoolExecutor(len(BUILDS)) as pool,
    ):
        builds = [build for build in BUILDS if lacks(build, folder) is None]
        yield {build: pool.submit(program, build, files, folder, steps) for build in builds}


def cases() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.c") if path.stem != "driver")


def program(build: Build, files: list[Path], folder: Path, steps: Executor) -> Path:
    """Compile and link it in the folder; fail on the compiler's first warning."""
    command = build.command()
    digest = hashlib.sha256("\0".join(command).encode())
    for header in sorted([*KERNELS.rglob("*.h"), *HERE.glob("*.h")]):
        digest.update(header.read_bytes())

    def compiled(path: Path) -> Path:
        key = digest.copy()
        key.update(path.read_bytes())
        target = folder / f"{path.stem}-{key.hexdigest()[:20]}.o"
        return _built(target, [*command, "-c", str(path)])

    objects = list(steps.map(compiled, files))
    linked = hashlib.sha256("\0".join(target.name for target in objects).encode()).hexdigest()[:20]
    target = folder / f"{files[0].stem}-{linked}"
    return _built(target, [*command, *map(str, objects), "-lm"])


def _built(path: Path, step: list[str]) -> Path:
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}")
        _quietly([*step, "-o", str(partial)])
        partial.replace(path)
    return path


def _quietly(step: list[str]) -> None:
    done = subprocess.run(step, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, f"{' '.join(step)}\n{done.stderr}"


def lacks(build: Build, folder: Path) -> str | None:
    """Return what keeps this machine from the build: a compiler, an emulator or a sanitizer."""
    if build.emulated and not (shutil.which(QEMU) and shutil.which(CROSS)):
        return f"there is no {CROSS} or no {QEMU}"
    empty = folder / "empty.c"
    empty.write_text("int main(void) { return 0; }\n")
    try:
        _quietly([*build.command(), str(empty), "-o", str(folder / "empty")])
    except (AssertionError, CompileError) as error:
        return f"an empty program does not compile: {error}"
    return None


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.name)
def test_kernels(build: Build, programs: dict[Build, Future[Path]], tmp_path: Path) -> None:
    if build not in programs:
        pytest.skip(lacks(build, tmp_path) or "")
    done = build.run(programs[build].result(), "2")
    assert done.returncode == 0 and not done.stderr, done.stdout[-2000:] + done.stderr[-6000:]
    assert sorted(done.stdout.split()) == cases()


@pytest.mark.parametrize("build", [b for b in BUILDS if not b.emulated], ids=lambda b: b.name)
def test_faults_are_noticed(build: Build, tmp_path: Path) -> None:
    if missing := lacks(build, tmp_path):
        pytest.skip(missing)
    faults = {"race": RACE} if THREADS[0] in build.flags else {"heap": OVERFLOW, "shift": SHIFT}
    for word, text in faults.items():
        source = tmp_path / f"{word}.c"
        source.write_text(text)
        with ThreadPoolExecutor(1) as steps:
            done = build.run(program(build, [source], tmp_path, steps))
        assert done.returncode != 0 and word in done.stderr


def test_a_warning_is_noticed(tmp_path: Path) -> None:
    if missing := lacks(BUILDS[-1], tmp_path):
        pytest.skip(missing)
    source = tmp_path / "unused.c"
    source.write_text("int main(void) { int unused; return 0; }\n")
    with ThreadPoolExecutor(1) as steps, pytest.raises(AssertionError, match="unused"):
        program(BUILDS[-1], [source], tmp_path, steps)
