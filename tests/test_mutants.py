"""Faults stand where their operators say, in a copy alone, and are noticed or not."""

import ast
from pathlib import Path

import pytest

from tests import mutants
from tests.faults import faults
from tests.mutants import Copy, Fate, modules, other_tests, own_tests, report, sample

SOURCE = '''
"""A module: 1."""
import log

def scale(items: "list[int]", least: int = 2) -> int:
    """Return 3."""
    log.info("4", 5)
    if not items and least < 6:
        raise ValueError(f"of {least + 7}")
    total, most = 0, 1e37
    for item in items:
        if item is None:
            continue
        total += min(item, least)
    items.append("é"); items.pop()
    total, _ = divmod(total, least)
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


def tree(root: Path) -> None:
    files = {
        "pyproject.toml": "[tool.pytest.ini_options]\n",
        "engine/double.py": "def double(x: int) -> int:\n    return x + x\n",
        "tests/engine/test_double.py": "assert True\n",
        "tests/engine/test_double_again.py": "def test() -> None:\n    pass\n",
        "tests/engine/test_user.py": "from engine.double import double\n"
        "def test() -> None:\n    assert double(3) == 6\n",
    }
    files["tests/reach.py"] = (mutants.ROOT / "tests/reach.py").read_text()
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_a_fault_is_noticed_by_other_tests_of_the_folder_and_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = object.__new__(Copy)
    copy.root, copy._environment = tmp_path, {}
    tree(tmp_path)
    file = "engine/double.py"
    assert own_tests(tmp_path, file) == [
        "tests/engine/test_double.py",
        "tests/engine/test_double_again.py",
    ]
    assert other_tests(tmp_path, file) == ["tests/engine/test_user.py"]
    fault = next(f for f in faults(tmp_path, tmp_path / file) if f.operator == "another operator")
    assert copy.fate(fault, (), False, 60).how == "survived"
    assert copy.fate(fault, (), True, 60).how == "noticed"
    assert "x + x" in (tmp_path / file).read_text()
    assert not copy.fails(other_tests(tmp_path, file), 60)
    monkeypatch.setitem(mutants.EQUIVALENT, fault.key, "a reason")
    assert copy.fate(fault, (), True, 60).how == "equivalent"


def test_tests_that_fail_as_they_are_notice_nothing(tmp_path: Path) -> None:
    copy = object.__new__(Copy)
    copy.root, copy._environment = tmp_path, {}
    tree(tmp_path)
    user = tmp_path / "tests/engine/test_user.py"
    user.write_text("from engine import double\ndef test() -> None:\n    assert False\n")
    chosen = faults(tmp_path, tmp_path / "engine/double.py")
    assert {fate.how for fate in copy.fates(chosen, True)} == {"survived"}
    (tmp_path / "tests/engine/test_double.py").write_text("def test() -> None:\n    assert 0\n")
    assert {fate.how for fate in copy.fates(chosen, True)} == {"skipped"}


def test_own_tests_that_reach_a_fault_run_before_the_others_and_the_quickest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = object.__new__(Copy)
    copy.root, copy._environment = tmp_path / "tree", {}
    tree(copy.root)
    (copy.root / "engine/double.py").write_text(
        "def double(x: int) -> int:\n    if x:\n        return x + x\n    return 0\n"
    )
    (copy.root / "tests/engine/test_double.py").write_text(
        "import time\nfrom engine.double import double\n"
        "def test_a() -> None:\n    assert double(0) == 0\n"
        "def test_b() -> None:\n    time.sleep(0.5)\n    assert double(1) == 2\n"
        "def test_c() -> None:\n    assert double(3) == 6\n"
    )
    names = [f"tests/engine/test_double.py::test_{letter}" for letter in "cb"]
    lines = copy.reached("engine/double.py") or {}
    assert [name for name, reached in lines.items() if 3 in reached] == names
    assert all(2 in lines[name] for name in names) and 4 not in lines[names[0]]
    assert copy.reached("engine/nothing.py") == {}
    fault = next(
        f
        for f in faults(copy.root, copy.root / "engine/double.py")
        if f.operator == "another operator"
    )
    runs: list[list[str]] = []
    broken = copy.broken
    monkeypatch.setattr(copy, "broken", lambda t, s: runs.append([*t]) or broken(t, s))
    assert [fate.how for fate in copy.fates([fault], wide=False)] == ["noticed"]
    assert runs[1:] == [names]


def test_tests_that_never_end_have_noticed(tmp_path: Path) -> None:
    copy = object.__new__(Copy)
    copy.root, copy._environment = tmp_path, {}
    (tmp_path / "test_slow.py").write_text("import time\ntime.sleep(600)\n")
    assert copy.fails(["test_slow.py"], 1.0)
    tree(tmp_path)
    fault = faults(tmp_path, tmp_path / "engine/double.py")[0]
    assert copy.fate(fault, ["test_slow.py"], False, 1.0) == Fate(fault, "noticed", late=True)


def test_the_report_leaves_out_what_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree(tmp_path)
    fault = faults(tmp_path, tmp_path / "engine/double.py")[0]
    hows = ("noticed", "survived", "equivalent", "skipped")
    fates = [Fate(fault, "noticed", late=True), *(Fate(fault, how) for how in hows)]
    assert report(fates, 0.5) == 0
    said = capsys.readouterr().out
    assert "2 of 3 faults noticed (66.7%), 1 of them by tests that did not end; 1 more" in said
    assert "left out, for its own tests fail as they are: engine/double.py" in said
    assert report(fates, 0.7) == 1


def test_the_equivalent_ones_still_stand_in_the_code() -> None:
    files = {key.partition(" | ")[0] for key in mutants.EQUIVALENT}
    known = {fault.key for file in files for fault in faults(mutants.ROOT, mutants.ROOT / file)}
    assert mutants.EQUIVALENT.keys() <= known
