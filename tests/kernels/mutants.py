"""Makes mutants of our Metal kernels by fixed operators, and counts how many the tests notice.

Every line of a kernel that an operator applies to gives a mutant. The cases of the tests
(metal_cases.py) are run in check mode until one fails. What survives counts against the tests, but
for mutants that compile to the very code of the original; what does not compile is no mutant.
"""

import json
import queue
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Annotated

from typer import Option

from bessemer.bench.command import FAILED, command
from bessemer.kernels.metal import library, source
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.source import HERE, KernelSource, SourceLine, metal_files, sources
from bessemer.kernels.simulator.options import MetalCompileError
from tests.kernels.metal_cases import Case
from tests.mutants import show_shares

SECONDS = 120.0  # a mutant that runs longer has been noticed
_COMPARISON = re.compile(r" (<=|>=|<|>|==|!=) ")
_MOVED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
_BARRIER = re.compile(r"\b(?:threadgroup|simdgroup)_barrier\([^;]*\);")
_CONDITION = re.compile(r"\b(if|while) \((.+)\) \{")
_SUBSCRIPT = re.compile(r"\[([^\[\]]+)\]")
_DECLARATION = re.compile(r"^(?!return\b|else\b)[A-Za-z_][\w:<>, ]*[\w>] \**\w+(?:\[[^\]]*\])+")
_NAME = re.compile(r"\b[A-Za-z_]\w*\b(?!\()")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A line of a file, and what stands there instead."""

    file: str
    number: int
    operator: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Fate:
    """`how` is noticed (and then by which case), survived, the same (compiled code) or invalid."""

    mutant: Mutant
    how: str
    case: str = ""


def without_barrier(line: str) -> Iterator[str]:
    yield from (line[: m.start()] + ";" + line[m.end() :] for m in _BARRIER.finditer(line))


def weaker_barrier(line: str) -> Iterator[str]:
    for match in re.finditer(r"mem_flags::mem_(threadgroup|device)", line):
        yield line[: match.start()] + "mem_flags::mem_none" + line[match.end() :]
    for match in re.finditer(r"\bthreadgroup_barrier\(", line):
        yield line[: match.start()] + "simdgroup_barrier(" + line[match.end() :]


def without_bound(line: str) -> Iterator[str]:
    """Yield a condition that always holds, and one without each of its parts."""
    for match in _CONDITION.finditer(line):
        if "constexpr" in line or not _COMPARISON.search(match[2]):
            continue
        parts = match[2].split(" && ")
        fewer = [" && ".join(parts[:i] + parts[i + 1 :]) for i in range(len(parts))]
        for rest in ["true"] if len(parts) == 1 else fewer:
            if rest.count("(") == rest.count(")"):
                yield f"{line[: match.start(2)]}{rest}{line[match.end(2) :]}"
    for match in re.finditer(r"([\w\]\)] [<>]=? [\w\[\]\(\). +*-]+|\w+) \? ", line):
        if not _COMPARISON.search(match[1]):
            continue
        start = line.rfind("(", 0, match.start()) + 1
        if line[:start].count("(") and _COMPARISON.search(line[start : match.end(1)]):
            yield f"{line[:start]}true{line[match.end(1) :]}"


def moved_bound(line: str) -> Iterator[str]:
    if line.startswith(("template", "static_assert", "using")) or "constexpr" in line:
        return
    for match in _COMPARISON.finditer(line):
        yield f"{line[: match.start()]} {_MOVED[match[1]]} {line[match.end() :]}"


def swapped_index(line: str) -> Iterator[str]:
    """Swap the first two different names of a subscript."""
    for match in _subscripts(line):
        names = list(dict.fromkeys(_NAME.findall(match[1])))
        if len(names) < 2:
            continue
        yield f"{line[: match.start(1)]}{_exchange(match[1], *names[:2])}{line[match.end(1) :]}"


def _exchange(text: str, one: str, other: str) -> str:
    swap = {one: other, other: one}
    return _NAME.sub(lambda match: swap.get(match[0], match[0]), text)


def moved_index(line: str) -> Iterator[str]:
    for match in _subscripts(line):
        yield f"{line[: match.start(1)]}({match[1]}) + 1{line[match.end(1) :]}"


def _subscripts(line: str) -> Iterator["re.Match[str]"]:
    """Yield subscripts: no attributes, and none that says how long an array is."""
    declared = _DECLARATION.match(line)
    for match in _SUBSCRIPT.finditer(line):
        inside = declared and match.end() <= declared.end()
        if not inside and "[[" not in line and match[1].strip():
            yield match


OPERATORS: tuple[tuple[str, Callable[[str], Iterator[str]]], ...] = (
    ("a barrier removed", without_barrier),
    ("a barrier weakened", weaker_barrier),
    ("a bound dropped", without_bound),
    ("a bound moved", moved_bound),
    ("an index swapped", swapped_index),
    ("an index moved by one", moved_index),
)


def mutants(file: str) -> Iterator[Mutant]:
    """Yield all mutants of a file, in the order of its lines."""
    path = metal_files().get(file, HERE / file)
    lines = source.stripped(path)
    for line in lines:
        if line.file == file:
            for name, operator in OPERATORS:
                for after in operator(line.text):
                    if after != line.text:
                        yield Mutant(file, line.number, name, line.text, after)


def mutated(original: dict[str, KernelSource], mutant: Mutant) -> dict[str, KernelSource]:
    """Return the kernels with the mutant's line in place of the original's."""

    def change(lines: tuple[SourceLine, ...]) -> tuple[SourceLine, ...]:
        return tuple(
            replace(line, text=mutant.after)
            if (line.file, line.number, line.text) == (mutant.file, mutant.number, mutant.before)
            else line
            for line in lines
        )

    return {
        name: replace(kernel, header=change(kernel.header), body=change(kernel.body))
        for name, kernel in original.items()
    }


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Build kernels from the mutant's text within the block."""

    def planted_sources(path: Path) -> dict[str, KernelSource]:
        return mutated(sources(path), mutant)

    original = library.sources
    library.kernel.cache_clear()
    library.sources = planted_sources  # type: ignore[assignment]
    try:
        yield
    finally:
        library.sources = original
        _forget_kernels()


def _forget_kernels() -> None:
    """Clear all that holds kernels of the files as they were: plans of launches do too."""
    library.kernel.cache_clear()
    for name, module in sys.modules.copy().items():
        if name.startswith("bessemer.kernels.") and hasattr(module, "_plan"):
            module._plan.cache_clear()


def fate(mutant: Mutant, cases: Sequence[Case]) -> Fate:
    """Run the cases until one notices."""
    with planted(mutant), using(Simulator(SimulatorOptions(mode="check"))):
        for case in cases:
            try:
                case.run()
            except MetalCompileError:
                return Fate(mutant, "invalid")
            except (AssertionError, RuntimeError, ValueError) as error:
                del error
                return Fate(mutant, "noticed", case.name)
    return Fate(mutant, "the same" if _same_code(mutant, cases) else "survived")


def _same_code(mutant: Mutant, cases: Sequence[Case]) -> bool:
    """Return whether every specialisation of the cases compiles to the original's code."""
    device = Simulator(SimulatorOptions(mode="check"))
    codes = []
    for plant in (False, True):
        with using(device), library.watching() as launches:
            if plant:
                with planted(mutant):
                    for case in cases:
                        case.run()
            else:
                for case in cases:
                    case.run()
        codes.append([launch.code() for launch in launches])
    assert codes[0], "the cases launch nothing"
    return codes[0] == codes[1]


def all_cases() -> list[Case]:
    """Return the cases of every test file that offers some."""
    every: list[Case] = []
    for path in sorted(Path(__file__).parent.glob("*/test_*_metal.py")):
        module = import_module(f"tests.kernels.{path.parent.name}.{path.stem}")
        if "cases" in vars(module):
            every += module.cases()
    return every


def serve() -> None:
    """Work: mutants come as lines of JSON, fates go out the same way."""
    by_file: dict[str, list[Case]] = {}
    for case in all_cases():
        by_file.setdefault(case.file, []).append(case)
    for line in sys.stdin:
        mutant = Mutant(**json.loads(line))
        cases = by_file.get(mutant.file) or [
            c for f in users(mutant.file) for c in by_file.get(f, [])
        ]
        end = fate(mutant, cases)
        print(json.dumps([end.how, end.case]), flush=True)


def users(header: str) -> list[str]:
    """Return the .metal files that include a shared header."""
    names = []
    for path in metal_files().values():
        if any(line.file == header for line in source.stripped(path)):
            names.append(path.name)
    return names


class Worker:
    """A process that tries mutants; one that hangs is ended and begun anew."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def try_(self, mutant: Mutant) -> Fate:
        process = self._process or self._start()
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps(asdict(mutant)) + "\n")
        process.stdin.flush()
        timer = threading.Timer(SECONDS, process.kill)
        timer.start()
        answer = process.stdout.readline()
        timer.cancel()
        if not answer:
            process.wait()
            self._process = None
            return Fate(mutant, "noticed", "it never ended, or ended the process")
        how, case = json.loads(answer)
        return Fate(mutant, how, case)

    def _start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "tests.kernels.mutants", "--worker"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self._process

    def end(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()


def run(chosen: Iterable[Mutant], jobs: int) -> list[Fate]:
    """Try all mutants; return their fates in any order."""
    todo: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
    for mutant in chosen:
        todo.put(mutant)
    fates: list[Fate] = []

    def work() -> None:
        worker = Worker()
        while True:
            try:
                fates.append(worker.try_(todo.get_nowait()))
            except queue.Empty:
                return worker.end()
            if fates[-1].how == "survived":
                print(shown(fates[-1].mutant), flush=True)
            if len(fates) % 50 == 0:
                print(f"{len(fates)} tried, {todo.qsize()} left", file=sys.stderr, flush=True)

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return fates


def shown(mutant: Mutant) -> str:
    where = f"{mutant.file}:{mutant.number}: {mutant.operator}"
    return f"{where}\n    {mutant.before}\n    {mutant.after}"


# fmt: off
@command(__doc__)
def main(
    files: Annotated[list[str] | None, Option(
        "--file", metavar="NAME.metal", help="Only of this file; repeatable.",
    )] = None,
    jobs: Annotated[int, Option(help="Processes that try mutants.")] = 2,
    min_share: Annotated[float, Option("--least", help="The share that must be noticed.")] = 0.95,
    worker: Annotated[bool, Option("--worker", hidden=True)] = False,
) -> int:
    # fmt: on
    if worker:
        serve()
        return 0
    every = [path.name for path in sorted([*metal_files().values(), *HERE.glob("*.h")])]
    fates = run((m for name in files or every for m in mutants(name)), jobs)
    return report(fates, min_share)


def report(fates: Sequence[Fate], min_share: float) -> int:
    """Print the tables; return 1 if too many survived."""
    counted = [fate for fate in fates if fate.how in ("noticed", "survived")]
    show_shares("file", ((fate.mutant.file, fate.how == "noticed") for fate in counted))
    show_shares("operator", ((fate.mutant.operator, fate.how == "noticed") for fate in counted))
    kinds = Counter(fate.how for fate in fates)
    share = kinds["noticed"] / max(1, len(counted))
    print(
        f"{kinds['noticed']} of {len(counted)} mutants noticed ({share:.1%}); "
        f"{kinds['the same']} compile to the original's code, {kinds['invalid']} do not compile"
    )
    return FAILED if share < min_share else 0


if __name__ == "__main__":
    sys.exit(main())
