"""Plants faults in the Python of engine, http and translate; counts how many the tests notice.

A sample of faults, in proportion to a module's lines, is planted one by one in a copy of the tree.
The module's own tests run first: of these the ones that reach the fault. What survives them all is
tried with the others that reach it, of the folder and end to end, the quickest files first; these
must pass without it. What survives those too counts against the tests, but for the faults in
EQUIVALENT, which somebody read. A module whose own tests fail as they are is named and left out.
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
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import IO, Annotated, TypeVar

from typer import Option

from bessemer.bench.command import FAILED, command
from bessemer.engine.command_line import USAGE
from tests.faults import Fault, faults
from tests.reach import outside, probed

ROOT = Path(__file__).parents[1]
# The tests that may notice a fault of a folder's.
SUITES = {
    "engine": ("engine", "http"),
    "http": ("http",),
    "translate": ("translate", "http"),
}
ALL_SECONDS = 7200.0  # for tests as they are
START_SECONDS, SLOWER = 150.0, 3.0  # tests that take this and so many times theirs have noticed
BROKEN = re.compile(r"^(?:FAILED|ERROR) ([^\s:]+)", re.MULTILINE)  # a file in pytest's summary
PASSED, NOTHING_COLLECTED = 0, 5
PYTEST = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider")
MLX = "mlx"  # what MLX has compiled for the CPU, in the folder of temporary files
FILES = 8  # of tests that look at once for those that reach a survivor
T = TypeVar("T")
R = TypeVar("R")

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
    "engine/text/tokenizer.py |  | another constant | 2 | (3)": "the pieces are of one text",
    "engine/text/vocabulary.py | Vocabulary.token_to_id | always true | sought | True": (
        "no token has an empty name; it is not sought for what that costs"
    ),
    "engine/token_rules.py | Ngrams.after | another constant | 0 | (1)": (
        "nothing has followed while there are no more tokens than `before`"
    ),
    "engine/embedding/inputs.py |  | another constant | 30 | (31)": (
        "both are more than any model's limit"
    ),
    "engine/kv_probe.py | _log_probabilities | another constant | 2 | (3)": (
        "a page or a state more than are used"
    ),
    "engine/serving.py | load_described | another constant | 0 | (1)": "one byte of a plan",
    "http/connection.py | Connection._balance | another comparison | len(self._inbox) > READ_AHEAD"
    " | (len(self._inbox) >= READ_AHEAD)": "one byte less is read ahead",
    "http/event_stream.py | Backlog.add | another comparison | self._size > self._limit"
    " | (self._size >= self._limit)": "who is refused is looked up, and at the limit it is nobody",
    "http/template_host.py | TemplateHost._started | another constant | 20 | (21)": (
        "twice as much of an answer is read ahead of who waits for all of it"
    ),
    'translate/signature.py |  | swapped arguments | hmac.digest(KEY, b"sealing", "sha256")'
    " | hmac.digest(b'sealing', KEY, 'sha256')": "a key that only this server knows, either way",
    "translate/reasoning.py | _switches | a condition less | asked.effort and "
    "format.efforts.get(asked.effort, asked.effort) | "
    "(format.efforts.get(asked.effort, asked.effort))": "no family knows a level of none at all",
    "http/overflow.py | ContextOverflow._tokens | another constant | 2 | (3)": (
        "no text of two characters is longer than two contexts"
    ),
    'http/cors.py | Cors.headers | a condition less | request.header(b"origin") or b""'
    " | (request.header(b'origin'))": "an origin that is allowed is not None",
}


class How(StrEnum):
    """What came of a fault; SKIPPED: the module's own tests fail without it."""

    NOTICED = "noticed"
    ELSEWHERE = "noticed elsewhere"
    SURVIVED = "survived"
    EQUIVALENT = "equivalent"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Fate:
    """`by` is the file of the test that noticed; what did not end in time says nothing: `late`."""

    fault: Fault
    how: How
    by: str = ""

    @property
    def late(self) -> bool:
        return self.how in {How.NOTICED, How.ELSEWHERE} and not self.by


@dataclass(frozen=True, slots=True)
class Probed:
    """A test as it runs without a fault, but with probes: it may fail for these."""

    seconds: float
    failed: bool
    reached: frozenset[int]

    def may_notice(self, fault: int) -> bool:
        return self.failed or fault in self.reached


def own_tests(root: Path, file: str) -> list[str]:
    """Return the test files at a module's mirrored path: test_NAME.py and test_NAME_*.py."""
    path = Path("tests", file)
    found = [path.with_name(f"test_{path.name}"), *_more(root, path)]
    return [each.as_posix() for each in found if (root / each).exists()]


def _more(root: Path, path: Path) -> list[Path]:
    return [p.relative_to(root) for p in sorted((root / path.parent).glob(f"test_{path.stem}_*"))]


def suite(root: Path, files: Iterable[str]) -> list[str]:
    """Return the test files that may notice faults of these modules."""
    folders = {name for file in files for name in SUITES[Path(file).parts[0]]}
    found = (path for name in folders for path in (root / "tests" / name).rglob("test_*.py"))
    return sorted(path.relative_to(root).as_posix() for path in found)


def in_order(tests: Mapping[str, Probed], fault: int, without: Collection[str]) -> list[str]:
    """Return the tests that may notice a fault, but for these files': the quickest file first."""
    by_file = defaultdict[str, list[str]](list)
    for name, test in tests.items():
        if test.may_notice(fault) and (file := name.partition("::")[0]) not in without:
            by_file[file].append(name)
    files = sorted(by_file.values(), key=lambda names: sum(tests[n].seconds for n in names))
    return [name for names in files for name in names]


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


def _listed() -> list[str]:
    """Return the files that git knows or would."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout
    return [name for name in names.decode().split("\0") if name]


class Copy:
    """A copy of the tree in which a fault stands while tests run; child processes find it too."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "tree"
        for name in _listed():
            if (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name)
        link = folder / "link"
        link.mkdir(parents=True)
        (link / "bessemer").symlink_to(self.root)  # before what is installed: see pyproject.toml
        compiled = Path(tempfile.gettempdir(), MLX)
        compiled.mkdir(exist_ok=True)
        (folder / MLX).symlink_to(compiled)
        self._environment = os.environ | {
            "PYTHONPATH": str(link),
            "TMPDIR": str(folder),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # a second of each run
        }

    def fates(self, chosen: Sequence[Fault]) -> Iterator[Fate]:
        """Yield what a module's own tests make of its faults."""
        own = own_tests(self.root, chosen[0].file)
        tests = self.reached(dict(enumerate(chosen)), own)
        if any(test.failed for test in tests.values()) and self.fails(own, ALL_SECONDS):
            yield from (Fate(fault, How.SKIPPED) for fault in chosen)
            return
        anywhere = outside((self.root / chosen[0].file).read_bytes(), dict(enumerate(chosen)))
        for number, fault in enumerate(chosen):
            if fault.key in EQUIVALENT:
                yield Fate(fault, How.EQUIVALENT)
            else:
                names = [*tests] if number in anywhere else in_order(tests, number, ())
                broken = self._by(fault, names, tests)
                yield Fate(fault, How.NOTICED if broken else How.SURVIVED, *broken)

    def elsewhere(self, fault: Fault, number: int, tests: Mapping[str, Probed]) -> Fate:
        """Return what others make of a survivor: whether one fails that passes without it."""
        others = in_order(tests, number, own_tests(self.root, fault.file))
        while others:
            broken = self._by(fault, others, tests)
            if not broken:
                break
            if not broken[0] or not self.fails(broken, ALL_SECONDS):
                return Fate(fault, How.ELSEWHERE, *broken)
            others = [each for each in others if each.partition("::")[0] != broken[0]]
        return Fate(fault, How.SURVIVED)

    def _by(self, fault: Fault, names: Sequence[str], tests: Mapping[str, Probed]) -> list[str]:
        seconds = START_SECONDS + SLOWER * sum(tests[name].seconds for name in names)
        with self._changed({fault.file: fault.planted}):
            return self.broken(names, seconds)

    def reached(self, chosen: Mapping[int, Fault], names: Sequence[str]) -> dict[str, Probed]:
        """Run tests, all of them, and return what each is like."""
        if not names:
            return {}
        by_file = defaultdict[str, dict[int, Fault]](dict)
        for number, fault in chosen.items():
            by_file[fault.file][number] = fault
        out = self.root.parent / "reach.json"
        out.unlink(missing_ok=True)
        with self._changed({f: partial(probed, chosen=each) for f, each in by_file.items()}):
            arguments = ["-p", "tests.reach", "--reach", str(out), "--maxfail", str(1 << 30)]
            self.broken([*arguments, *names], ALL_SECONDS)
        tests = json.loads(out.read_text()) if out.exists() else {names[0]: (0.0, True, [])}
        return {
            name: Probed(seconds, failed, frozenset(reached))
            for name, (seconds, failed, reached) in tests.items()
        }

    @contextmanager
    def _changed(self, changes: Mapping[str, Callable[[bytes], bytes]]) -> Iterator[None]:
        sources = {self.root / file: (self.root / file).read_bytes() for file in changes}
        for (path, source), change in zip(sources.items(), changes.values(), strict=True):
            self._write(path, change(source))
        try:
            yield
        finally:
            for path, source in sources.items():
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
            return BROKEN.findall(output.read())[:1] or [""]

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
    """Try all faults with their modules' own tests, then survivors with the others."""
    modules = [list(module) for _, module in groupby(chosen, key=lambda fault: fault.file)]
    fates = _told(_in_copies(modules, jobs, Copy.fates), len(chosen), "tried")
    left = {n: fate.fault for n, fate in enumerate(fates) if fate.how == How.SURVIVED}
    if not wide or not left:
        return fates
    files = suite(ROOT, {fault.file for fault in left.values()})
    parts = [files[at : at + FILES] for at in range(0, len(files), FILES)]

    def reached(copy: Copy, part: Sequence[str]) -> Iterator[tuple[str, Probed]]:
        yield from copy.reached(left, part).items()

    tests: dict[str, Probed] = dict(_in_copies(parts, jobs, reached))

    def elsewhere(copy: Copy, each: tuple[int, Fault]) -> Iterator[Fate]:
        yield copy.elsewhere(each[1], each[0], tests)

    found = _told(_in_copies([*left.items()], jobs, elsewhere), len(left), "tried elsewhere")
    return [fate for fate in fates if fate.how != How.SURVIVED] + found


def _in_copies(todo: Sequence[T], jobs: int, work: Callable[[Copy, T], Iterator[R]]) -> Iterator[R]:
    """Yield what comes of all, in any order; each job takes the next in its own copy."""
    left: queue.SimpleQueue[T] = queue.SimpleQueue()
    for each in todo:
        left.put(each)
    found: queue.SimpleQueue[R | None] = queue.SimpleQueue()  # None when a job has ended

    def job() -> None:
        try:
            with _copy() as copy, suppress(queue.Empty):
                while True:
                    for result in work(copy, left.get_nowait()):
                        found.put(result)
        finally:
            found.put(None)

    threads = [threading.Thread(target=job) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    running = jobs
    while running:
        if (result := found.get()) is None:
            running -= 1
        else:
            yield result


@contextmanager
def _copy() -> Iterator[Copy]:
    with tempfile.TemporaryDirectory(prefix="mutants", ignore_cleanup_errors=True) as folder:
        yield Copy(Path(folder))


def _told(fates: Iterable[Fate], number: int, doing: str) -> list[Fate]:
    """Return the fates, and say how far it is and what was not noticed at first."""
    found: list[Fate] = []
    for fate in fates:
        found.append(fate)
        if fate.how in {How.SURVIVED, How.ELSEWHERE}:
            print(f"{fate.how} {fate.by}\n  {fate.fault.shown()}", flush=True)
        print(f"\r{len(found)} of {number} {doing}", end="", file=sys.stderr, flush=True)
    return found


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
    paths = modules(only or list(SUITES))
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
    hows = Counter(fate.how for fate in fates)
    noticed = {How.NOTICED, How.ELSEWHERE}
    counted = [fate for fate in fates if fate.how in noticed | {How.SURVIVED}]
    show_shares("file", ((fate.fault.file, fate.how in noticed) for fate in counted))
    show_shares("operator", ((fate.fault.operator, fate.how in noticed) for fate in counted))
    for file in sorted({fate.fault.file for fate in fates if fate.how == How.SKIPPED}):
        print(f"left out, for its own tests fail as they are: {file}")
    own, number = hows[How.NOTICED], hows[How.NOTICED] + hows[How.ELSEWHERE]
    whole = max(1, len(counted))
    late = sum(fate.late for fate in fates)
    print(
        f"{number} of {len(counted)} faults noticed ({number / whole:.1%}), "
        f"{own} of them by the module's own tests ({own / whole:.1%}), "
        f"{late} by tests that did not end; {hows[How.EQUIVALENT]} more change nothing"
    )
    return FAILED if number / whole < min_share else 0


def show_shares(title: str, fates: Iterable[tuple[str, bool]]) -> None:
    """Print of each name how many faults there were, and how many were noticed."""
    every, noticed = Counter[str](), Counter[str]()
    for name, known in fates:
        every[name] += 1
        noticed[name] += known
    for name, count in sorted(every.items()):
        print(f"{title:9} {name:40} {noticed[name]:5} of {count:5} noticed")


if __name__ == "__main__":
    sys.exit(main())
