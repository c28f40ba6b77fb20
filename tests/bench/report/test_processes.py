"""Tests of bench/report/processes.py: crashes, hangs, bugs are findings, and the rest goes on."""

import psutil
import pytest

from bessemer.bench.report.finding import How
from bessemer.bench.report.processes import run_part
from bessemer.bench.report.steps import Step

from .running import ROOT, planted


def test_a_crash_and_a_bug_are_findings_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = planted("crashes", monkeypatch, "part")
    assert [(each.item, each.state) for each in found] == [
        ("before", "ok"),
        ("crash", "crash"),
        ("bug", "error"),
        ("raised", "error"),
        ("after", "figure"),
    ]
    crash, bug, raised = found[1:4]
    assert crash.text == "it ended its process by SIGSEGV" and not crash.is_fine
    assert "KeyError: 'missing'" in bug.text and "Traceback" in bug.details["stderr"]
    assert raised.text == "RuntimeError: [metal] it is full"
    assert found[4].text == "7" and {each.part for each in found} == {"part"}


def test_what_hangs_is_killed_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    hang, after = planted("endless", monkeypatch, seconds=2)
    assert (hang.item, hang.state, hang.seconds) == ("endless", "hang", 2)
    assert hang.text == "no end after 2 s" and (after.item, after.state) == ("after it", "ok")


def test_a_part_that_cannot_begin_is_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = planted("broken", monkeypatch, "nobody")
    assert finding.state == "error" and "KeyError: 'nobody'" in finding.text


def test_when_its_time_is_over_the_rest_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    *done, last = planted("slow", monkeypatch, all_of_it=6)
    assert last.state == "left out" and last.is_fine
    assert last.text == f"its time was over after {len(done)} of its items"
    assert len(done) < 1000 and {each.state for each in done} <= {"ok"}


def test_who_stops_listening_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    step = Step("planted", "", "tests.bench.report.planted:slow", 1, 300)
    findings = run_part(step, "", How(True), float("inf"), lambda _: None)
    process = next(findings).details["process"]
    assert psutil.pid_exists(process)
    findings.close()  # type: ignore[attr-defined]
    assert not psutil.pid_exists(process)
