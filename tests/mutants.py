"""Plants faults in the Python of engine, http and translate; counts how many the tests notice.

A sample of faults, in proportion to a module's lines, is planted one by one in a copy of the tree.
The module's own tests run first, of these the ones that reach the fault; then all of its folder,
until one fails that passes without the fault. What survives counts against the tests, but for the
faults in EQUIVALENT, which somebody read. A module whose own tests fail as they are is named and
left out.
"""

import json
import os
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, Annotated

from typer import Option

from bessemer.bench.command import FAILED, command
from bessemer.engine.command_line import USAGE
from tests.faults import Fault, faults

ROOT = Path(__file__).parents[1]
FOLDERS = ("engine", "http", "translate")
ALL_SECONDS = 900.0  # for tests as they are, and for all of a folder's
START_SECONDS, SLOWER = 10.0, 5.0  # own tests that take this and so many times theirs have noticed
BROKEN = re.compile(r"^(?:FAILED|ERROR) ([^\s:]+)", re.MULTILINE)  # a file in pytest's summary
PASSED, NOTHING_COLLECTED = 0, 5
PYTEST = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider")

# Survivors that were read and change nothing that anybody can see: the key of each, and why.
EQUIVALENT: dict[str, str] = {
    "engine/checkpoint/weights.py | Weights._take | a condition less | self._check and "
    "header.dtype in FLOATS and not mx.isfinite(array).all() | "
    "(self._check and (not mx.isfinite(array).all()))": (
        "whole numbers are finite: they are not looked at for what that costs"
    ),
    "engine/embedding/decoder.py | DecoderBackbone.__call__ | a call dropped | mx.eval(normed)"
    " | pass": "numpy waits for each array, only not for all of them at once",
    "engine/pager.py | Pager.follows | another constant | 0 | (1)": (
        "prompts are found again at the ends of pages, and a page has more tokens than one"
    ),
    "engine/sampler.py | _uniform | another constant | 0.0 | (1.0)": (
        "no kernel reads a greedy row's number"
    ),
    "engine/token_rules.py | Ngrams.after | another constant | 0 | (1)": (
        "nothing has followed while there are no more tokens than `before`"
    ),
    "engine/serving.py | load_described | another constant | 0 | (1)": "one byte of a plan",
    "http/auth.py | Auth.caller | swapped arguments | hmac.compare_digest(digest, known)"
    " | hmac.compare_digest(known, digest)": "equality has no order",
    "http/body.py |  | another constant | 16384 | (16385)": "one byte more is free, or in a piece",
    "http/connection.py | Connection._balance | another comparison | len(self._inbox) > READ_AHEAD"
    " | (len(self._inbox) >= READ_AHEAD)": "one byte less is read ahead",
    "http/event_stream.py | Backlog.add | another comparison | self._size > self._limit"
    " | (self._size >= self._limit)": "who is refused is looked up, and at the limit it is nobody",
    "http/template_host.py | TemplateHost._started | another constant | 20 | (21)": (
        "twice as much of an answer is read ahead of who waits for all of it"
    ),
    'http/cors.py | Cors.headers | a condition less | request.header(b"origin") or b""'
    " | (request.header(b'origin'))": "an origin that is allowed is not None",
}


@dataclass(frozen=True, slots=True)
class Fate:
    """`how` is noticed, survived, equivalent, or skipped: the module's tests fail without it.

    A fault that is noticed `late` is known by tests that did not end in time, and said nothing.
    """

    fault: Fault
    how: str
    late: bool = False


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
        self._environment = os.environ | {
            "PYTHONPATH": str(link),
            "TMPDIR": str(folder),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # a second of each run
        }

    def fates(self, chosen: Sequence[Fault], wide: bool) -> Iterator[Fate]:
        """Yield the fates of faults in one module."""
        begin = time.monotonic()
        tests = self.reached(chosen[0].file)
        if tests is None:
            yield from (Fate(fault, "skipped") for fault in chosen)
            return
        limit = START_SECONDS + SLOWER * (time.monotonic() - begin)
        for fault in chosen:
            first = [test for test, lines in tests.items() if fault.line in lines]
            yield self.fate(fault, first, wide, limit)

    def fate(self, fault: Fault, first: Sequence[str], wide: bool, seconds: float) -> Fate:
        if fault.key in EQUIVALENT:
            return Fate(fault, "equivalent")
        with self._planted(fault):
            own = own_tests(self.root, fault.file)
            broken = self.broken(first, seconds) or self.broken(own, seconds)
        noticed = broken or (wide and self._noticed_elsewhere(fault))
        return Fate(fault, "noticed" if noticed else "survived", late=broken == [""])

    def reached(self, file: str) -> dict[str, set[int]] | None:
        """Return which lines each own test reaches, the quickest first; None where one fails."""
        own = own_tests(self.root, file)
        if not own:
            return {}
        out = self.root.parent / "reach.json"
        if self.fails(["-p", "tests.reach", "--reach", file, str(out), *own], ALL_SECONDS):
            return None
        tests: dict[str, tuple[float, list[int]]] = json.loads(out.read_text())
        quickest = sorted(tests.items(), key=lambda test: test[1][0])
        return {name: set(lines) for name, (_, lines) in quickest}

    def _noticed_elsewhere(self, fault: Fault) -> bool:
        """Return whether another test file fails with the fault and passes without it."""
        others = other_tests(self.root, fault.file)
        while True:
            with self._planted(fault):
                broken = self.broken(others, ALL_SECONDS)
            if not broken or not set(broken) <= set(others):
                return False  # in time, nobody noticed
            if not self.fails(broken, ALL_SECONDS):
                return True
            others = [each for each in others if each not in broken]

    @contextmanager
    def _planted(self, fault: Fault) -> Iterator[None]:
        path = self.root / fault.file
        source = path.read_bytes()
        self._write(path, fault.planted(source))
        try:
            yield
        finally:
            self._write(path, source)

    @staticmethod
    def _write(path: Path, source: bytes) -> None:
        """Write a module and forget its bytecode, which may look no older than the source."""
        for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            stale.unlink()
        path.write_bytes(source)

    def fails(self, tests: Sequence[str], seconds: float) -> bool:
        """Return whether a test fails or never ends."""
        return bool(self.broken(tests, seconds))

    def broken(self, tests: Sequence[str], seconds: float) -> list[str]:
        """Return the file of the first test that fails; "" stands for what took too long."""
        if not tests:
            return []
        with tempfile.TemporaryFile("w+") as output:
            code = self._code([*PYTEST, *tests], seconds, output)
            if code in (PASSED, NOTHING_COLLECTED):
                return []
            output.seek(0)
            return BROKEN.findall(output.read()) or [""]

    def _code(self, command: Sequence[str], seconds: float, output: IO[str]) -> int | None:
        """Return the exit code, or None after so long; what tests leave running is ended."""
        process = subprocess.Popen(
            command,
            cwd=self.root,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run(chosen: Sequence[Fault], jobs: int, wide: bool) -> list[Fate]:
    """Try all faults, each job a module at a time in its own copy; return fates in any order."""
    todo: queue.SimpleQueue[list[Fault]] = queue.SimpleQueue()
    for _, module in groupby(chosen, key=lambda fault: fault.file):
        todo.put(list(module))
    fates: list[Fate] = []

    def work() -> None:
        with tempfile.TemporaryDirectory(prefix="mutants", ignore_cleanup_errors=True) as folder:
            copy = Copy(Path(folder))
            with suppress(queue.Empty):
                while True:
                    for fate in copy.fates(todo.get_nowait(), wide):
                        fates.append(fate)
                        _tell(fate, f"{len(fates)} of {len(chosen)}")

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return fates


def _tell(fate: Fate, progress: str) -> None:
    if fate.how == "survived":
        print(fate.fault.shown(), flush=True)
    print(f"\r{progress} tried", end="", file=sys.stderr, flush=True)


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
    counted = [fate for fate in fates if fate.how in {"noticed", "survived"}]
    show_shares("file", ((fate.fault.file, fate.how) for fate in counted))
    show_shares("operator", ((fate.fault.operator, fate.how) for fate in counted))
    number = sum(fate.how == "noticed" for fate in counted)
    share = number / max(1, len(counted))
    same, late = sum(fate.how == "equivalent" for fate in fates), sum(fate.late for fate in fates)
    for file in sorted({fate.fault.file for fate in fates if fate.how == "skipped"}):
        print(f"left out, for its own tests fail as they are: {file}")
    print(
        f"{number} of {len(counted)} faults noticed ({share:.1%}), "
        f"{late} of them by tests that did not end; {same} more change nothing"
    )
    return FAILED if share < min_share else 0


def show_shares(title: str, fates: Iterable[tuple[str, str]]) -> None:
    """Print of each name how many faults there were, and how many were noticed."""
    every, noticed = Counter[str](), Counter[str]()
    for name, how in fates:
        every[name] += 1
        noticed[name] += how == "noticed"
    for name, count in sorted(every.items()):
        print(f"{title:9} {name:40} {noticed[name]:5} of {count:5} noticed")


if __name__ == "__main__":
    sys.exit(main())
