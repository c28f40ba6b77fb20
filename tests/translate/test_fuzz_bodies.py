"""Drawn bodies give requests or refusals, the same in every run, and what is dear is found."""

import time
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from bessemer.engine.request import Refusal
from tests.translate import fuzz
from tests.translate.fuzz import ENDPOINTS, Bodies, Endpoint, explore, main


def test_some_thousand_bodies_of_all_endpoints_are_requests_or_refusals() -> None:
    findings = explore(seed=1, chunk=0, count=3_500)
    assert findings.wrong == []
    assert sum(findings.outcomes.values()) == 3_500
    common = {"valid", "invalid_json", "invalid_type", "invalid_value", "unsupported"}
    assert all(findings.outcomes[code] > 100 for code in common)
    assert {name for name, _ in findings.dearest} == ENDPOINTS.keys()


def test_every_endpoint_takes_some_of_its_bodies_and_reaches_its_fields() -> None:
    for endpoint in ENDPOINTS.values():
        source = Bodies(endpoint, Random(3))
        bodies = [source.draw()[0] for _ in range(600)]
        taken = sum(_is_taken(endpoint, body) for body in bodies)
        assert 10 < taken < 590
        together = b"".join(bodies)
        assert all(f'"{name}"'.encode() in together for name in endpoint.fields.honoured)


def _is_taken(endpoint: Endpoint, body: bytes) -> bool:
    try:
        return endpoint.decode(body) is not None
    except Refusal:
        return False


def test_the_same_seed_draws_the_same_bodies() -> None:
    first, same, other = (Bodies(ENDPOINTS["chat"], Random(seed)) for seed in (5, 5, 6))
    drawn = [first.draw() for _ in range(50)]
    assert drawn == [same.draw() for _ in range(50)] != [other.draw() for _ in range(50)]


def test_what_is_wrong_and_what_is_dear_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def decode(body: bytes) -> Any:
        if b"logit_bias" in body:
            raise KeyError("a bug")
        if b'"seed"' in body:
            start = time.thread_time_ns()
            while time.thread_time_ns() < start + 3e6:
                pass

    broken = {"chat": replace(ENDPOINTS["chat"], decode=decode)}
    monkeypatch.setattr(fuzz, "ENDPOINTS", broken)
    findings = explore(seed=1, chunk=0, count=300)
    assert findings.wrong and all("KeyError('a bug')" in each for each in findings.wrong)
    dearest = max(findings.dearest["chat", "seconds"])
    assert b'"seed"' in dearest.start or dearest.length > len(dearest.start)
    assert dearest.cost >= 3e-3
    assert fuzz.report(findings) == 1
    assert "ms," in capsys.readouterr().out


def test_the_command_line() -> None:
    assert main(["--number", "70", "--jobs", "1"]) == 0
