"""Tests of `bessemer doctor --gpu-report`: files, exit codes, Ctrl-C, what cannot be."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bessemer.bench.report import cli, report, steps
from bessemer.bench.report.cli import main
from bessemer.bench.report.finding import Finding, How
from bessemer.bench.report.report import GpuReport
from bessemer.bench.report.show import page
from bessemer.bench.report.steps import STEPS, Step
from bessemer.kernels.metal.device import Gpu, Simulator

from .running import ROOT


def read(path: Path) -> Any:
    return json.loads(path.with_suffix(".json").read_text())


def step(name: str) -> Step:
    return Step(name, f"planted {name}", f"tests.bench.report.planted:{name}", 1)


def test_every_step_has_its_function_and_parts() -> None:
    for each in STEPS:
        assert callable(each.function())
        assert all(each.parts(How(simulated)) for simulated in (True, False))
    assert len({each.name for each in STEPS}) == len(STEPS)


def test_a_report_goes_on_after_failures_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(cli, "STEPS", (step("crashes"), step("broken")))
    assert main(["--gpu-report", str(tmp_path / "r.html"), "--simulated"]) == 1
    out = capsys.readouterr().out
    assert "1 crash" in out and "crashes, crash: crash: it ended its process by SIGSEGV" in out
    written = read(tmp_path / "r")
    assert written["simulated"] and not written["interrupted"] and written["schema"] == 1
    states = [(each["step"], each["state"]) for each in written["findings"]]
    assert states[-1] == ("broken", "error") and len(states) == 6
    html = (tmp_path / "r.html").read_text()
    assert (
        "SIGSEGV" in html
        and "not a GPU" in html
        and sorted(os.listdir(tmp_path))
        == [
            "r.html",
            "r.json",
        ]
    )


def test_where_all_is_well_the_exit_code_is_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "device", lambda: Gpu())
    monkeypatch.setattr(report, "run_part", lambda step, part, how, *_: finding(step, part, how))
    assert main(["--gpu-report", str(tmp_path / "r")]) == 0
    found = read(tmp_path / "r")["findings"]
    assert {each["step"] for each in found} == {each.name for each in STEPS}
    assert {each["text"] for each in found} == {"How(simulated=False)"}


def finding(step: Step, part: str, how: How) -> list[Finding]:
    return [Finding(step.name, part, "", "ok", str(how))]


def test_steps_whose_time_is_over_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "run_part", lambda step, part, how, *_: finding(step, part, how))
    made = GpuReport(How(), 0.0, (step("crashes"), step("slow")))
    report.make(made, lambda *_: None, lambda: None)
    assert [each.state for each in made.findings] == ["left out", "left out"] and not made.wrong


def test_some_steps_alone_in_the_order_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "run_part", lambda step, part, how, *_: finding(step, part, how))
    arguments = ["--gpu-report", str(tmp_path / "r"), "--simulated", "--only", "kv,machine"]
    assert main(arguments) == 0
    assert list(read(tmp_path / "r")["steps"]) == ["machine", "kv"]


@pytest.mark.parametrize(
    ("arguments", "excerpt"),
    [
        ([], "there is one thing to look at so far: --gpu-report FILE"),
        (["--gpu-report", "{}/r"], "there is no Metal device here"),
        (["--gpu-report", "{}/no/r", "--simulated"], "--gpu-report {}/no/r.json cannot be written"),
        (["--gpu-report", "{}/r", "--only", "kv,x"], "there is no step named x; there are machine"),
        (["--gpu-report", "{}/r", "--minutes", "0"], "--minutes"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], excerpt: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([each.format(tmp_path) for each in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bessemer doctor: ") and excerpt.format(tmp_path) in error
    assert error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_kernels_in_the_simulator_are_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "device", lambda: Simulator())
    assert main(["--gpu-report", str(tmp_path / "r")]) == 2


SLOW = """
import sys
from bessemer.bench.report import cli, report
from bessemer.bench.report.steps import Step
report.SAVED_EVERY = 0.2
WORK = "tests.bench.report.planted:slow"
cli.STEPS = (Step("slow", "s", WORK, 1), Step("never", "n", ":", 0.001))
sys.exit(cli.main(["--gpu-report", sys.argv[1], "--simulated"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
def test_what_was_found_is_kept_when_somebody_stops_it(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    path, saved = tmp_path / "r", tmp_path / "r.json"
    with subprocess.Popen([sys.executable, "-P", "-c", SLOW, str(path)]) as process:
        until = time.monotonic() + 300
        while not (saved.exists() and saved.stat().st_size):  # it is saved now and then
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.1)
        process.send_signal(number)
        assert process.wait(300) == 130
    written = read(path)
    assert written["interrupted"] and written["findings"]
    assert {each["step"] for each in written["findings"]} == {"slow"}
    assert "Interrupted" in path.with_suffix(".html").read_text()


HOSTILE = "<script>alert(1)</script> & {{ 7 * 7 }}"


def test_the_page_has_all_and_trusts_nothing() -> None:
    kernel = {"kernel": "k", "function": "f<T>", "threads": 32, "text": f"a < b; // {HOSTILE}"}
    details = {"arguments": [HOSTILE], "first": {"index": [3]}, "kernels": [kernel]}
    made = GpuReport(How(), 15, (steps.STEPS[1],))
    made.findings += [
        Finding("kernels", "rms_norm", "case 1", "compile error", HOSTILE, 1.5, details),
        Finding("kernels", "rms_norm", "case 2", "ok", "", 0.5),
    ]
    html = page(made)
    assert "<script" not in html and "&lt;script&gt;" in html and "{{ 7 * 7 }}" in html
    assert "a &lt; b" in html and "f&lt;T&gt;" in html and "compile error" in html
    assert not any(part in html for part in ("<link", "src=", "@import", "http:", "not a GPU"))
    assert made.counts(made.steps[0]) == {"compile error": 1, "ok": 1}
    assert made.wrong == made.findings[:1]
    assert "Nothing was found to be wrong" in page(
        GpuReport(How(), 1, (), findings=made.findings[1:])
    )
