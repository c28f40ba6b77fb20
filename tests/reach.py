"""Which tests reach a fault: probes in a module's copy, and a plugin of pytest that gathers them.

`-p tests.reach --reach OUT` writes JSON to OUT: of each test its seconds, whether it failed, and
the numbers of the faults whose statements it began, in its own process or in one that it started.
"""

import ast
import json
import time
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import pytest

from tests.faults import Fault, line_starts
from tests.probe import BYTES, FOLDER, NOW, REACHED

PROBE = "__import__('bessemer.tests.probe', fromlist=['reached']).reached({})"
Function = ast.FunctionDef | ast.AsyncFunctionDef


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reach", metavar="OUT")


def pytest_configure(config: pytest.Config) -> None:
    out = config.getoption("--reach") or pytest.exit("--reach is missing")
    config.pluginmanager.register(Reach(Path(out)))


class Reach:
    def __init__(self, out: Path) -> None:
        self._out = out
        self._seconds: dict[str, float] = {}
        self._failed: set[str] = set()
        self._begin(0)
        (FOLDER / REACHED).write_bytes(b"")

    @staticmethod
    def _begin(test: int) -> None:
        """Say which test runs, in the same file: processes have it mapped."""
        (FOLDER / NOW).touch()
        with (FOLDER / NOW).open("r+b") as file:
            file.write(test.to_bytes(BYTES, "little"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._begin(len(self._seconds) + 1)
        begin = time.monotonic()
        try:
            return (yield)
        finally:
            self._seconds[item.nodeid] = time.monotonic() - begin

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        reached = defaultdict[int, set[int]](set)
        for line in (FOLDER / REACHED).read_text().splitlines():
            test, fault = map(int, line.split())
            reached[test].add(fault)
        tests = {
            name: (seconds, name in self._failed, sorted(reached[number] | reached[0]))
            for number, (name, seconds) in enumerate(self._seconds.items(), 1)
        }
        self._out.write_text(json.dumps(tests))


def probed(source: bytes, chosen: Mapping[int, Fault]) -> bytes:
    """Return a module that tells of each fault, by its number, when its statement begins.

    Of one that stands outside all functions it tells when any of the functions begins; where there
    are none, when the module is read.
    """
    tree, starts = ast.parse(source), line_starts(source)
    places = {starts[n.lineno - 1] + n.col_offset: n for n in _statements(tree, source, starts)}
    firsts = [p for p, n in places.items() if n in set(_firsts(tree))]
    if not firsts:
        first = tree.body[ast.get_docstring(tree) is not None]
        firsts = [starts[first.lineno - 1]]
        places = {firsts[0]: first}
    probes = defaultdict[int, list[str]](list)
    for number, fault in chosen.items():
        around = [p for p, n in places.items() if p <= fault.start < _end(n, starts)]
        for place in [max(around)] if around else firsts:
            probes[place].append(PROBE.format(number))
    for place in sorted(probes, reverse=True):
        indent = " " * places[place].col_offset
        text = "".join(f"{probe}\n{indent}" for probe in probes[place])
        source = source[:place] + text.encode() + source[place:]
    return source


def outside(source: bytes, chosen: Mapping[int, Fault]) -> frozenset[int]:
    """Return the faults that stand outside all functions: every test that imports them has them."""
    tree, starts = ast.parse(source), line_starts(source)
    inside = [
        (starts[each.lineno - 1] + each.col_offset, _end(each, starts))
        for function in ast.walk(tree)
        if isinstance(function, Function)
        for each in function.body
    ]
    return frozenset(
        number
        for number, fault in chosen.items()
        if not any(begin <= fault.start < end for begin, end in inside)
    )


def _end(node: ast.stmt, starts: list[int]) -> int:
    return starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)


def _statements(tree: ast.Module, source: bytes, starts: list[int]) -> Iterator[ast.stmt]:
    """Yield the statements in functions before which another line may stand."""
    inside = (s for f in ast.walk(tree) if isinstance(f, Function) for s in f.body)
    for node in (each for s in inside for each in ast.walk(s) if isinstance(each, ast.stmt)):
        begin = starts[node.lineno - 1]
        place = begin + node.col_offset
        alone = source[begin:place].isspace() and not source.startswith(b"elif", place)
        if alone and not getattr(node, "decorator_list", ()):
            yield node


def _firsts(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield each function's first statement but for its docstring."""
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield from node.body[ast.get_docstring(node) is not None :][:1]
