"""Verdicts on answers, and a real server that refuses what it cannot do yet."""

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from bessemer.bench.compare import quality
from bessemer.bench.compare.contest import CaseFailed
from bessemer.bench.compare.quality import (
    AnswerVerdict,
    QualityScore,
    incoherence,
    reasoned,
    scores,
    violation,
)
from tests.http.running import Server, serving

QUESTIONS = tomllib.loads(quality.FILE.read_text())
GOOD = {
    "person": {"name": "Ada", "age": 36},
    "colours": {"colours": ["red", "green", "blue"]},
    "sentiment": {"sentiment": "positive"},
    "weather": {"celsius": -3.5, "rain": False},
    "address": {"person": "A", "address": {"street": "B", "city": "Berlin", "zip": "10115"}},
    "order": {"items": [{"sku": "a", "price": 1}, {"sku": "b", "price": 2.5}]},
    "date": {"date": "1969-07-20"},
    "rating": {"rating": 5, "reason": "strong"},
    "matrix": {"rows": [[1, 0], [0, 1]]},
    "nothing": {"exists": False, "value": None},
}
BAD: dict[str, list[tuple[Any, str]]] = {
    "person": [({"name": "Ada"}, "lacks age"), ({"name": "", "age": 1}, "name has 0 characters")],
    "colours": [({"colours": ["red"]}, "1 items"), ([], "no object")],
    "sentiment": [({"sentiment": "great"}, "none of the values")],
    "weather": [({"celsius": True, "rain": False}, "no number")],
    "address": [
        ({"person": "A", "address": {"street": "", "city": "", "zip": "1"}}, "pattern"),
        ({"person": "A", "address": {}, "x": 1}, "lacks street"),
    ],
    "order": [({"items": [{"sku": "a", "price": -1}] * 2}, "out of its range")],
    "date": [({"date": "July 20"}, "pattern")],
    "rating": [({"rating": 6, "reason": ""}, "out of its range"), ({"rating": 1.5}, "lacks")],
    "matrix": [({"rows": [[1, 0], [0, "1"]]}, "no integer")],
    "nothing": [({"exists": False, "value": 0}, "no null"), ({"exists": 1}, "lacks")],
}


def test_there_are_ten_schemas_and_five_questions() -> None:
    assert [question["name"] for question in QUESTIONS["structured"]] == list(GOOD)
    assert len(GOOD) == 10 and len(QUESTIONS["reasoning"]) == 5


@pytest.mark.parametrize("question", QUESTIONS["structured"], ids=lambda q: q["name"])
def test_schemas_take_what_is_right_and_nothing_else(question: dict[str, Any]) -> None:
    schema = json.loads(question["schema"])
    assert violation(GOOD[question["name"]], schema) == ""
    for value, excerpt in BAD[question["name"]]:
        assert excerpt in violation(value, schema)
    assert violation({**GOOD[question["name"]], "more": 1}, schema) == (
        "the answer has more, which is not allowed"
    )


@pytest.mark.parametrize(
    ("message", "result", "excerpt"),
    [
        ({"content": "210", "reasoning_content": "3.5 * 60"}, "passed", ""),
        ({"content": "210", "reasoning": "3.5 * 60"}, "passed", ""),
        ({"content": "<think>3.5 * 60</think>210"}, "failed", "left in the content"),
        ({"content": "210"}, "failed", "no reasoning_content"),
        ({"content": "", "reasoning_content": "hm"}, "failed", "no content"),
    ],
)
def test_reasoning(
    message: dict[str, str], result: str, excerpt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "ask", lambda *_: message)
    verdict = reasoned("", "", "")
    assert verdict.result == result and excerpt in verdict.reason


@pytest.mark.parametrize(
    ("text", "excerpt"),
    [
        ("Air scatters blue light more than red. So the sky is blue.", ""),
        ("", "empty"),
        ("well \ufffd then", "printed"),
        ("a\x00b", "printed"),
        ("so it is " * 20, "again and again"),
    ],
)
def test_coherence_is_seen_on_sight(text: str, excerpt: str) -> None:
    assert excerpt in incoherence(text) and bool(excerpt) == bool(incoherence(text))


def test_scores_count_what_was_refused() -> None:
    refused = AnswerVerdict("refused", "no")
    verdicts = [AnswerVerdict("passed"), refused, refused]
    score = QualityScore("structured output", verdicts)
    assert score.shown == "1/3, 2 refused" and score.reasons == ["refused: no (2 times)"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--max-tokens", "24") as running:
        yield running


def test_a_real_server(server: Server) -> None:
    by_name = {score.name: score for score in scores(server.url)}
    assert list(by_name) == ["structured output", "reasoning", "coherence"]
    assert [len(score.verdicts) for score in by_name.values()] == [10, 5, 1]
    assert by_name["coherence"].passed == 1
    assert all(
        verdict.result != "failed" or verdict.reason for verdict in by_name["reasoning"].verdicts
    )


@pytest.mark.long
def test_the_default_model_gives_ten_structured_answers_of_ten() -> None:
    """H5.15: ten prompts, and each answer is what its schema asks for."""
    with serving("--model", "smollm2-135m-instruct") as running:
        score = next(scores(running.url))
        assert (score.name, score.passed, score.reasons) == ("structured output", 10, [])


def test_nobody_there() -> None:
    with pytest.raises(CaseFailed, match="does not list its models"):
        list(scores("http://127.0.0.1:1"))
