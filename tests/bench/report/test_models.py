"""Tests of bench/report/models.py in the simulator: whole models, and what differs is told."""

import pytest

from bessemer.bench.report import models
from bessemer.bench.report.finding import How

from .running import planted


def test_a_device_that_does_not_keep_writes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = planted("forgets", monkeypatch)
    assert (finding.item, finding.state) == ("in place", "wrong")
    assert "--metal-kv in-place is not used" in finding.text


def test_the_simulator_keeps_to_writing_in_place() -> None:
    ((name, work),) = models.patterns("", How(simulated=True))
    assert name == "in place" and work().state == "ok"


def test_another_answer_is_told_with_both(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = planted("other_answers", monkeypatch)
    assert finding.state == "wrong" and finding.item.endswith(", a step ahead off")
    assert finding.text.startswith("How do I serve a model? Not the CPU's answer from token 2 on")
    ours, exact = finding.details["tokens"][0], finding.details["tokens"][1]
    assert len(ours) == len(exact) == 4 and finding.details["ours"] != finding.details["the CPU's"]


def test_logits_that_are_off_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was planted is all that they are off by."""
    (finding,) = planted("other_logits", monkeypatch)
    assert (finding.item, finding.state) == ("llama_llama3", "wrong")
    assert finding.text.startswith("logits are off by 1, over")
    assert len(finding.details["largest difference of each row"]) == 7


def test_without_a_checkout_there_are_no_golden_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "ROOT", models.ROOT / "nowhere")
    ((_, work),) = models.golden("", How(simulated=True))
    assert work().state == "left out"


def test_every_way_to_append_is_asked_at_both_depths() -> None:
    names = [name for name, _ in models.answers("", How(simulated=True))]
    assert len(names) == 6 and "tail, a step ahead on" in names
