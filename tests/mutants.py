"""Plants faults in the Python of engine, http and translate; counts how many the tests notice.

A sample of faults, in proportion to a module's lines, is planted one by one in a copy of the tree.
The module's own test files run first, then all of its folder until one fails. What survives counts
against the tests, but for the faults in EQUIVALENT, which somebody read.
"""

import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from bessemer.bench.command import FAILED, USAGE, command
from tests.faults import Fault, faults

ROOT = Path(__file__).parents[1]
FOLDERS = ("engine", "http", "translate")
OWN_SECONDS, ALL_SECONDS = 120.0, 900.0  # tests that run longer have noticed
PASSED, NOTHING_COLLECTED = 0, 5
PYTEST = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider")

# Survivors that were read and change nothing that anybody can see: the key of each, and why.
EQUIVALENT: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Fate:
    """`how` is noticed, survived or equivalent."""

    fault: Fault
    how: str


def own_tests(root: Path, file: str) -> list[str]:
    """Return the test files at a module's mirrored path: test_NAME.py and test_NAME_*.py."""
    path = Path("tests", file)
    found = [path.with_name(f"test_{path.name}"), *_more(root, path)]
    return [each.as_posix() for each in found if (root / each).exists()]


def _more(root: Path, path: Path) -> list[Path]:
    return [p.relative_to(root) for p in sorted((root / path.parent).glob(f"test_{path.stem}_*"))]


def other_tests(root: Path, file: str) -> list[str]:
    """Return the folder's other test files: first those that name the module."""
    parts = Path(file).with_suffix("").parts
    own = set(own_tests(root, file))
    every = sorted((root / "tests" / parts[0]).rglob("test_*.py"))
    ordered = sorted(every, key=lambda path: parts[-1] not in path.read_text())
    return [name for p in ordered if (name := p.relative_to(root).as_posix()) not in own]


def sample(root: Path, paths: Sequence[Path], number: int, seed: int) -> list[Fault]:
    """Choose faults, from each module in proportion to its lines, the same for the same seed."""
    lines = {path: len(path.read_text().splitlines()) for path in paths}
    share = number / max(1, sum(lines.values()))
    chosen: list[Fault] = []
    owed = 0.0
    for path in paths:
        owed += lines[path] * share
        every = faults(root, path)
        take = min(round(owed), len(every))
        owed -= take
        chosen += random.Random(f"{seed} {path.relative_to(root)}").sample(every, take)
    return chosen


class Copy:
    """A copy of the tree in which a fault stands while tests run; child processes find it too."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "tree"
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout
        for name in filter(None, names.decode().split("\0")):
            if (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name)
        link = folder / "link"
        link.mkdir()
        (link / "bessemer").symlink_to(self.root)  # before what is installed: see pyproject.toml
        self._environment = os.environ | {"PYTHONPATH": str(link), "TMPDIR": str(folder)}

    def fate(self, fault: Fault, wide: bool) -> Fate:
        if fault.key in EQUIVALENT:
            return Fate(fault, "equivalent")
        path = self.root / fault.file
        source = path.read_bytes()
        self._write(path, fault.planted(source))
        try:
            own, others = own_tests(self.root, fault.file), other_tests(self.root, fault.file)
            noticed = self.fails(own, OWN_SECONDS) or (wide and self.fails(others, ALL_SECONDS))
        finally:
            self._write(path, source)
        return Fate(fault, "noticed" if noticed else "survived")

    @staticmethod
    def _write(path: Path, source: bytes) -> None:
        """Write a module and forget its bytecode, which may look no older than the source."""
        for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            stale.unlink()
        path.write_bytes(source)

    def fails(self, tests: Sequence[str], seconds: float) -> bool:
        """Return whether a test fails or never ends; what tests leave running is ended."""
        if not tests:
            return False
        process = subprocess.Popen(
            [*PYTEST, *tests],
            cwd=self.root,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return process.wait(seconds) not in (PASSED, NOTHING_COLLECTED)
        except subprocess.TimeoutExpired:
            return True
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run(chosen: Sequence[Fault], jobs: int, wide: bool) -> list[Fate]:
    """Try all faults, each job in a copy of its own; return their fates in any order."""
    todo: queue.SimpleQueue[Fault] = queue.SimpleQueue()
    for fault in chosen:
        todo.put(fault)
    fates: list[Fate] = []

    def work() -> None:
        with tempfile.TemporaryDirectory(prefix="mutants", ignore_cleanup_errors=True) as folder:
            copy = Copy(Path(folder))
            while True:
                try:
                    fates.append(copy.fate(todo.get_nowait(), wide))
                except queue.Empty:
                    return
                if fates[-1].how == "survived":
                    print(fates[-1].fault.shown(), flush=True)
                if len(fates) % 25 == 0:
                    print(f"{len(fates)} tried, {todo.qsize()} left", file=sys.stderr, flush=True)

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return fates


def failing(chosen: Sequence[Fault]) -> list[str]:
    """Return the test files that fail though nothing is planted."""
    files = sorted({test for fault in chosen for test in own_tests(ROOT, fault.file)})
    with tempfile.TemporaryDirectory(prefix="mutants", ignore_cleanup_errors=True) as folder:
        copy = Copy(Path(folder))
        if not copy.fails(files, ALL_SECONDS):
            return []
        return [file for file in files if copy.fails([file], OWN_SECONDS)] or files


# fmt: off
@command(__doc__)
def main(
    only: Annotated[list[str] | None, Option(
        "--in", metavar="PATH", help="Only of this folder or module; repeatable.",
    )] = None,
    number: Annotated[int, Option(help="Faults to plant.")] = 300,
    seed: Annotated[int, Option(help="Another number gives another sample.")] = 1,
    jobs: Annotated[int, Option(help="Faults tried at a time.")] = 2,
    own: Annotated[bool, Option("--own", help="Run a module's own test files alone.")] = False,
    min_share: Annotated[float, Option("--least", help="The share that must be noticed.")] = 0.9,
) -> int:
    # fmt: on
    paths = modules(only or FOLDERS)
    chosen = sample(ROOT, paths, number, seed)
    if not chosen:
        print("mutants: there is no Python to plant faults in.", file=sys.stderr)
        return USAGE
    if broken := failing(chosen):
        print(f"mutants: fails as it is: {', '.join(broken)}.", file=sys.stderr)
        return USAGE
    return report(run(chosen, jobs, not own), min_share)


def modules(names: Sequence[str]) -> list[Path]:
    """Return the modules below these folders, or these modules."""
    found: set[Path] = set()
    for name in names:
        path = ROOT / name
        found |= {path} if path.is_file() else set(path.rglob("*.py"))
    return sorted(found)


def report(fates: Sequence[Fate], min_share: float) -> int:
    """Print the tables; return 1 if too many survived."""
    counted = [fate for fate in fates if fate.how != "equivalent"]
    titles: tuple[tuple[str, Callable[[Fault], str]], ...] = (
        ("file", lambda fault: fault.file),
        ("operator", lambda fault: fault.operator),
    )
    for title, key in titles:
        every = Counter(key(fate.fault) for fate in counted)
        noticed = Counter(key(fate.fault) for fate in counted if fate.how == "noticed")
        for name, count in sorted(every.items()):
            print(f"{title:9} {name:40} {noticed[name]:4} of {count:4} noticed")
    number = sum(fate.how == "noticed" for fate in counted)
    share = number / max(1, len(counted))
    same = len(fates) - len(counted)
    print(f"{number} of {len(counted)} faults noticed ({share:.1%}); {same} more change nothing")
    return FAILED if share < min_share else 0


if __name__ == "__main__":
    sys.exit(main())
