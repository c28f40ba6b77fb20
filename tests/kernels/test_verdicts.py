"""Tests of the file that processes share their verdicts in, and of who may try when."""

import json
import multiprocessing
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from bessemer.kernels import verdicts as module
from bessemer.kernels.metal import source
from bessemer.kernels.verdicts import Verdict, VerdictFile, verdict_file

GOOD = Verdict(True, "", 1.0, 2.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "verdicts.json"


def test_what_is_written_is_read(path: Path) -> None:
    VerdictFile(path).write({"a 1": GOOD})
    assert VerdictFile(path).read() == {"a 1": GOOD}
    assert VerdictFile(None).read() == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"double 16": {"custom": 1, "no": 2}}'])
def test_an_unreadable_file_is_as_good_as_none(path: Path, text: str) -> None:
    path.write_text(text)
    file = VerdictFile(path)
    assert file.read() == {}
    file.write({"a": GOOD})
    assert file.read() == {"a": GOOD}


def leave(path: Path, *names: str) -> int:
    """End a process within a trial of the last name, itself within those before."""

    def run() -> None:
        file = VerdictFile(path)
        with ExitStack() as trials:
            for name in names:
                trials.enter_context(file.trial(name))
            os.kill(os.getpid(), 9)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode == -9 and process.pid is not None
    return process.pid


def test_the_trial_that_was_going_on_when_its_process_ended_has_failed(path: Path) -> None:
    VerdictFile(path).write({"a": GOOD})
    process = leave(path, "outer", "inner")
    file = VerdictFile(path)
    with file.trial("b") as may_begin:
        assert may_begin
        found = file.read()
    assert set(found) == {"a", "inner"} and found["a"] == GOOD and not found["inner"].custom
    assert f"ended process {process}; it is tried again once {path} is removed" in (
        found["inner"].reason
    )
    leave(path, "a")  # its verdict was written before the end
    with VerdictFile(path).trial("b"):
        assert VerdictFile(path).read()["a"] == GOOD


def test_a_failure_counts_though_nothing_can_be_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(path, "a")
    monkeypatch.setattr(Path, "write_text", lambda *_: (_ for _ in ()).throw(OSError("full")))
    file = VerdictFile(path)
    with file.trial("b"):
        assert not file.read()["a"].custom
    assert not path.exists()


def test_a_trial_that_ends_in_an_exception_leaves_nothing(path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), VerdictFile(path).trial("a"):
        raise KeyboardInterrupt
    file = VerdictFile(path)
    with file.trial("b"):
        assert file.read() == {}


@pytest.mark.parametrize("left", ["{", "[]", '{"trials": []}', '{"trials": ["a"]}', "\0\0"])
def test_a_note_that_cannot_be_read_condemns_nothing(path: Path, left: str) -> None:
    path.with_suffix(".trial").write_text(left)
    file = VerdictFile(path)
    with file.trial("b") as may_begin:
        assert may_begin and file.read() == {}


def test_a_trial_waits_for_another_process_but_not_for_ever(path: Path) -> None:
    """All waiting of a process together is bounded, so that a hung one costs it no more."""
    times = iter([0.0, 4.0, 9.0, 11.0, 11.0, 11.0, 12.0, 12.0])
    late = VerdictFile(path, patience=10.0, clock=lambda: next(times))
    with VerdictFile(path).trial("a"):
        for _ in range(2):
            with late.trial("b") as may_begin:
                assert not may_begin
    assert next(times) == 12.0 and late.patience == 0
    with VerdictFile(path, clock=lambda: 12.0).trial("b") as may_begin:
        assert may_begin


def test_where_no_note_can_be_made_a_trial_goes_on(tmp_path: Path) -> None:
    with VerdictFile(tmp_path / "missing" / "verdicts.json").trial("a") as may_begin:
        assert may_begin
    with VerdictFile(None).trial("a") as may_begin:
        assert may_begin


def test_two_processes_lose_none_of_their_verdicts(path: Path) -> None:
    def run(name: str) -> None:
        for number in range(20):
            file = VerdictFile(path)
            with file.trial(f"{name} {number}"):
                file.write(file.read() | {f"{name} {number}": GOOD})

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=run, args=(name,)) for name in ("a", "b")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert len(json.loads(path.read_text())) == 40


def test_the_file_is_keyed_by_chip_versions_and_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "room" / "a.metal"
    text.parent.mkdir()
    text.write_text("one")
    monkeypatch.setattr(source, "FOLDER", tmp_path)
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path)
    names = {verdict_file("Apple M4 Max", "0.32-15.1"), verdict_file("Apple M1", "0.32-15.1")}
    text.write_text("one // a comment changes nothing")
    assert verdict_file("Apple M1", "0.32-15.1") in names
    names.add(verdict_file("Apple M1", "0.32-15.2"))
    text.write_text("two")
    names.add(verdict_file("Apple M1", "0.32-15.1"))
    assert len(names) == 4
