"""Tests of bench/report/figures.py: what a machine says of itself, and of its speed."""

import time
from pathlib import Path
from typing import Any

import pytest

from bessemer.bench.compare import cli
from bessemer.bench.report import figures
from bessemer.bench.report.finding import How

from .running import planted

# As ioreg prints it; the numbers are made up.
IOREG = """+-o AGXAcceleratorG16X  <class AGXAcceleratorG16X, registered, matched, active, busy 0>
    {
      "IOClass" = "AGXAcceleratorG16X"
      "PerformanceStatistics" = {"In use memory"=1073741824,"Device Utilization %"=97}
      "model" = "Apple M4 Max"
    }
"""


def test_counters_are_read_from_ioreg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = {
        "In use memory": 1 << 30,
        "Device Utilization %": 97,
    }
    assert figures.statistics(IOREG) == expected and figures.statistics("") == {}
    program = tmp_path / "ioreg"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{IOREG}END\n")
    program.chmod(0o755)
    monkeypatch.setattr(figures, "COUNTERS", (str(program),))
    monkeypatch.setattr(figures, "PAUSE", 0.01)
    monkeypatch.setattr(figures, "answer", lambda *_: time.sleep(0.5))
    ((_, work),) = figures.counters("", How(simulated=True))
    outcome = work()
    assert outcome.state == "figure" and outcome.details["most"] == expected
    assert "Device Utilization % 97" in outcome.text and "memory" not in outcome.text


def test_without_ioreg_counters_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "COUNTERS", ("nobody-has-this",))
    ((_, work),) = figures.counters("", How(simulated=True))
    outcome = work()
    assert outcome.state == "left out" and outcome.text == "there is no nobody-has-this here"


def test_the_machine_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "ASKED", {"echo": ("echo", "hello"), "no": ("nobody-has-this",)})
    found = {name: work() for name, work in figures.machine("", How(simulated=True))}
    assert list(found) == ["versions", "GPU", "echo", "no"]
    assert "mlx " in found["versions"].text and "not a GPU" in found["GPU"].text
    assert found["echo"].text == "hello" and found["no"].state == "left out"


def test_a_bench_that_fails_is_an_error_with_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = planted("no_bench", monkeypatch, "decode")
    assert finding.state == "error" and "no shape is called" in finding.text
    assert finding.details["command"] == "bessemer bench decode --shape nobody's"


def test_the_host_is_measured_also_without_a_gpu() -> None:
    ((_, work),) = figures.bench(figures.SIMULATED, How(simulated=True))
    outcome = work()
    assert outcome.state == "figure" and "4 streams: " in outcome.text
    assert len(outcome.details["result"]["figures"]) == 2
    ((_, other),) = figures.bench("decode, built-in model", How(simulated=True))
    assert other().state == "left out"


def test_sentences_of_a_comparison() -> None:
    row = {"contestant": "bessemer", "case": "after 32", "metric": "tok/s", "median": 1234.5}
    beside: dict[str, Any] = {"ratio": {"median": 1.25, "low": 1, "high": 2}}
    assert list(figures.sentences({"rows": [row, row | beside]})) == [
        "bessemer, after 32, tok/s: 1,234.5",
        "bessemer, after 32, tok/s: 1,234.5 (ours / theirs 1.25)",
    ]


@pytest.mark.parametrize("name", figures.COMMANDS)
def test_commands_are_such_as_there_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their flags are the ones that the command line has; nothing is measured."""
    arguments, beside = figures.COMMANDS[name]
    seen: list[Any] = []
    monkeypatch.setattr(cli, "deliver", lambda *each: seen.append(each) or 0)
    monkeypatch.setattr(cli.host_report, "report", lambda *each: seen.append(each) or 0)
    assert cli.main([*arguments, *(("--against", "mlx_lm") if beside else ()), "--json"]) == 0
    assert len(seen) == 1
