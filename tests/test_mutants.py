"""Faults stand where their operators say, in a copy alone, and are noticed or not."""

import ast
import re
from pathlib import Path

import pytest

from tests import mutants
from tests.faults import Fault, faults
from tests.mutants import (
    Copy,
    Fate,
    How,
    Probed,
    in_order,
    modules,
    own_tests,
    report,
    run,
    sample,
    suite,
)
from tests.reach import outside, probed

SOURCE = '''
"""A module: 1."""
import log

def scale(items: "list[int]", least: int = 2) -> int:
    """Return 3."""
    log.info("4", 5)
    self._log.debug("4", 5)
    if not items and least < 6:
        raise ValueError(f"of {least + 7}")
    total, most = 0, 1e37
    for item in items:
        if item is None:
            continue
        total += min(item, least)
    items.append("é"); items.pop()
    total, _ = divmod(total, least)
    late = now > least or clock.time() <= 9.5 or len(items) < 5000
    mx.eval(total, least)
    dict(zip(items, items, strict=True))
    return total

def __repr__() -> str:
    return 8 * "x"
'''


def planted(tmp_path: Path) -> set[tuple[str, str, str]]:
    path = tmp_path / "scale.py"
    path.write_text(SOURCE)
    found = faults(tmp_path, path)
    for fault in found:
        text = fault.planted(SOURCE.encode())
        ast.parse(text)
        assert text != SOURCE.encode()
    assert len({fault.key for fault in found}) == len(found)
    return {(each.operator, each.before, each.after) for each in found}


def test_faults_of_every_kind_are_found_and_each_is_python(tmp_path: Path) -> None:
    found = planted(tmp_path)
    assert found >= {
        ("another comparison", "least < 6", "(least <= 6)"),
        ("and for or", "not items and least < 6", "(not items or least < 6)"),
        ("a condition less", "not items and least < 6", "(least < 6)"),
        ("not dropped", "not items", "bool(items)"),
        ("another constant", "6", "(7)"),
        ("another constant", "2", "(3)"),
        ("another constant", "1e37", "(2e+37)"),
        ("another constant", "5000", "(10000)"),
        ("another constant", "9.5", "(10.5)"),
        ("another comparison", "now > least", "(now <= least)"),
        ("another comparison", "clock.time() <= 9.5", "(clock.time() > 9.5)"),
        ("always true", "item is None", "True"),
        ("continue dropped", "continue", "pass"),
        ("an assignment dropped", "total += min(item, least)", "pass"),
        ("swapped arguments", "divmod(total, least)", "divmod(least, total)"),
        ("min, max, any, all", "min", "max"),
        ("a call dropped", 'items.append("é")', "pass"),
        ("a call dropped", "items.pop()", "pass"),
        ("nothing returned", "total", "None"),
        ("an error dropped", 'raise ValueError(f"of {least + 7}")', "pass"),
    }
    assert not {"(now >= least)", "(clock.time() < 9.5)"} & {after for _, _, after in found}
    assert ("swapped arguments", "min(item, least)", "min(least, item)") not in found
    assert ("swapped arguments", "mx.eval(total, least)") not in {each[:2] for each in found}
    unchanged = {"1", "3", "5", "7", "8", "least + 7", "True"}
    assert not {before for _, before, _ in found} & unchanged


def test_a_sample_is_the_same_again_and_in_proportion_to_lines() -> None:
    paths = modules(["engine/pager.py", "engine/page_allocator.py"])
    chosen = sample(mutants.ROOT, paths, 20, 1)
    assert chosen == sample(mutants.ROOT, paths, 20, 1) != sample(mutants.ROOT, paths, 20, 2)
    assert len(chosen) == 20
    assert sum(each.file == "engine/pager.py" for each in chosen) > 14
    assert sample(mutants.ROOT, [], 20, 1) == []


FILES = {
    "pyproject.toml": "[tool.pytest.ini_options]\n",
    "engine/double.py": "def double(x: int) -> int:\n"
    "    if x:\n        return x + x\n    return 0\n",
    "tests/engine/test_double.py": "from bessemer.engine.double import double\n"
    "def test_a() -> None:\n    assert double(0) == 0\n"
    "def test_b() -> None:\n    assert double(2) is not None\n",
    "tests/engine/test_double_again.py": "from bessemer.engine.double import double\n"
    "def test() -> None:\n    assert double(5) in (0, 10)\n",
    "tests/engine/test_other.py": "def test() -> None:\n    pass\n",
    "tests/http/test_user.py": "import subprocess, sys\n"
    "CODE = 'from bessemer.engine.double import double; print(double(3))'\n"
    "def test() -> None:\n"
    "    assert subprocess.check_output([sys.executable, '-P', '-c', CODE]) == b'6\\n'\n",
}
OWN = ["tests/engine/test_double.py", "tests/engine/test_double_again.py"]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    """Return a copy of a small tree; `double` is wrong where an operator is another."""
    here = (f"tests/{name}.py" for name in ("faults", "probe", "reach"))
    files = FILES | {name: (mutants.ROOT / name).read_text() for name in here}
    for name, text in files.items():
        (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "all" / name).write_text(text)
    monkeypatch.setattr(mutants, "ROOT", tmp_path / "all")
    monkeypatch.setattr(mutants, "_listed", lambda: [*files])
    return Copy(tmp_path / "work")


def fault_of(copy: Copy, operator: str = "another operator") -> Fault:
    found = faults(copy.root, copy.root / "engine/double.py")
    return next(fault for fault in found if fault.operator == operator)


def test_own_tests_are_mirrored_and_those_of_a_suite_end_to_end_too(copy: Copy) -> None:
    assert own_tests(copy.root, "engine/double.py") == OWN
    other, user = "tests/engine/test_other.py", "tests/http/test_user.py"
    assert suite(copy.root, ["engine/double.py"]) == [*OWN, other, user]
    assert suite(copy.root, ["http/app.py"]) == [user]


def test_tests_that_reach_a_fault_are_found_also_in_processes_that_they_start(copy: Copy) -> None:
    zero = next(f for f in faults(copy.root, copy.root / "engine/double.py") if f.before == "0")
    chosen = {0: fault_of(copy), 7: zero}
    tests = copy.reached(chosen, suite(copy.root, [zero.file]))
    assert {name: sorted(test.reached) for name, test in tests.items()} == {
        f"{OWN[0]}::test_a": [7],
        f"{OWN[0]}::test_b": [0],
        f"{OWN[1]}::test": [0],
        "tests/engine/test_other.py::test": [],
        "tests/http/test_user.py::test": [0],
    }
    assert not any(test.failed for test in tests.values())
    assert (copy.root / zero.file).read_text() == FILES[zero.file]


def test_tests_that_may_notice_run_the_quickest_file_first() -> None:
    tests = {
        "slow.py::a": Probed(9.0, False, frozenset({0})),
        "slow.py::b": Probed(1.0, False, frozenset()),
        "other.py::c": Probed(1.0, True, frozenset()),  # for the probes, perhaps
        "quick.py::d": Probed(4.0, False, frozenset({0, 1})),
        "quick.py::e": Probed(4.0, False, frozenset({0})),
        "own.py::f": Probed(1.0, False, frozenset({0})),
    }
    expected = ["other.py::c", "quick.py::d", "quick.py::e", "slow.py::a"]
    assert in_order(tests, 0, ["own.py"]) == expected
    assert in_order(tests, 2, []) == ["other.py::c"]


def test_a_survivor_of_its_own_tests_is_noticed_elsewhere_or_not(copy: Copy) -> None:
    fault = fault_of(copy)
    assert list(copy.fates([fault])) == [Fate(fault, How.SURVIVED)]
    tests = copy.reached({0: fault}, suite(copy.root, [fault.file]))
    assert copy.elsewhere(fault, 0, tests) == Fate(fault, How.ELSEWHERE, "tests/http/test_user.py")
    (copy.root / "tests/http/test_user.py").write_text("def test() -> None:\n    assert 0\n")
    assert copy.elsewhere(fault, 0, tests) == Fate(fault, How.SURVIVED)


def test_a_fault_is_noticed_by_own_tests_unless_somebody_read_it(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = fault_of(copy, "nothing returned")
    (fate,) = copy.fates([fault])
    assert fate.how == How.NOTICED and fate.by in OWN
    monkeypatch.setitem(mutants.EQUIVALENT, fault.key, "a reason")
    assert list(copy.fates([fault])) == [Fate(fault, How.EQUIVALENT)]


def test_own_tests_that_fail_as_they_are_notice_nothing(copy: Copy) -> None:
    (copy.root / OWN[1]).write_text("def test() -> None:\n    assert 0\n")
    assert [fate.how for fate in copy.fates([fault_of(copy)])] == [How.SKIPPED]


def test_own_tests_that_fail_for_the_probes_alone_are_tried(copy: Copy) -> None:
    text = "from bessemer.engine import double\ndef test() -> None:\n"
    text += "    source = open(double.__file__).read()\n    assert 'probe' not in source\n"
    (copy.root / OWN[1]).write_text(text + "    assert double.double(3) == 6\n")
    fault = fault_of(copy)
    assert list(copy.fates([fault])) == [Fate(fault, How.NOTICED, OWN[1])]


def test_tests_that_never_end_have_noticed(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = "import time\nfrom bessemer.engine.double import double\n"
    slow += "def test() -> None:\n    time.sleep(0 if double(3) == 6 else 600)\n"
    (copy.root / OWN[0]).write_text(slow)
    (copy.root / OWN[1]).unlink()
    monkeypatch.setattr(mutants, "START_SECONDS", 3.0)
    fate = next(copy.fates([fault_of(copy)]))
    assert fate.late and fate.how == How.NOTICED


def test_run_tries_survivors_with_the_others(copy: Copy) -> None:
    chosen = [fault_of(copy), fault_of(copy, "nothing returned")]
    assert {fate.how for fate in run(chosen, 1, wide=True)} == {How.NOTICED, How.ELSEWHERE}


def test_probes_stand_before_the_statement_of_a_fault() -> None:
    source = "\n".join(
        (
            "LEAST = 1",
            "@cache",
            "def first(x: int = 2) -> int:",
            '    """Return 3."""',
            "    if x:",
            "        return 4",
            "    elif x > 5:",
            "        pass",
            "    return (x",
            "            + 6)",
            "class Second:",
            "    def size(self) -> int: return 7",
            "",
        )
    )
    numbers = {fault: fault for fault in range(1, 8)}
    chosen = {n: _constant(source, str(n)) for n in numbers if n != 3}
    lines = probed(source.encode(), chosen).decode().splitlines()
    shown = [re.sub(r"__import__.*reached\((\d)\)", r"probe \1", line) for line in lines]
    assert shown == [
        *source.splitlines()[:4],
        *(f"    probe {n}" for n in (1, 2, 5, 7)),
        "    if x:",
        "        probe 4",
        *source.splitlines()[5:8],
        "    probe 6",
        *source.splitlines()[8:],
    ]
    assert probed(b'"""A module."""\nLEAST = 1\n', {}) == b'"""A module."""\nLEAST = 1\n'


def test_a_module_without_functions_is_reached_when_it_is_read() -> None:
    source = '"""A module."""\nLEAST = 1\n'
    lines = probed(source.encode(), {1: _constant(source, "1")}).splitlines()
    assert lines[1].endswith(b"reached(1)") and lines[2] == b"LEAST = 1"


def _constant(source: str, before: str) -> Fault:
    return Fault("m.py", 1, "", "another constant", source.index(before), before, "(9)")


def test_what_stands_outside_functions_is_seen_by_whoever_imports_it(copy: Copy) -> None:
    """A default that a class gives is no function's, so no function that runs tells of it."""
    source = "class A:\n    x: int = 1\n\n    def twice(self) -> int:\n        return 2 * self.x\n"
    path = copy.root / "engine/double.py"
    path.write_text(FILES["engine/double.py"] + source)
    test = copy.root / OWN[0]
    test.write_text(
        "from bessemer.engine.double import A\ndef test() -> None:\n    assert A.x == 1\n"
    )
    chosen = {n: each for n, each in enumerate(faults(copy.root, path)) if each.before in "12"}
    found = outside(path.read_bytes(), chosen)
    assert [chosen[n].before for n in found] == ["1"]
    (fate,) = copy.fates([chosen[n] for n in found])
    assert (fate.how, fate.by) == (How.NOTICED, OWN[0])


def test_the_report_leaves_out_what_changes_nothing(
    copy: Copy, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = fault_of(copy)
    by = "tests/engine/test_double.py"
    others = (How.SURVIVED, How.EQUIVALENT, How.SKIPPED)
    fates = [Fate(fault, How.NOTICED), Fate(fault, How.ELSEWHERE, by)]
    fates += [Fate(fault, how) for how in others]
    assert report(fates, 0.6) == 0
    said = capsys.readouterr().out
    assert "2 of 3 faults noticed (66.7%), 1 of them by the module's own tests (33.3%), 1" in said
    assert "1 by tests that did not end; 1 more change nothing" in said
    assert "left out, for its own tests fail as they are: engine/double.py" in said
    assert report(fates, 0.7) == 1


def test_the_equivalent_ones_still_stand_in_the_code() -> None:
    files = {key.partition(" | ")[0] for key in mutants.EQUIVALENT}
    known = {fault.key for file in files for fault in faults(mutants.ROOT, mutants.ROOT / file)}
    assert mutants.EQUIVALENT.keys() <= known
