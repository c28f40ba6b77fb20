"""The built-in model's text and files: enough of it, its tests kept apart, small enough to ship."""

import json

from bessemer.bench.guide.corpus import blind_questions, entries, free_questions, held_out, normal
from bessemer.http.hub import BUILT_IN


def test_there_are_enough_pairs_and_their_answers_differ() -> None:
    known = entries()
    assert len(known) >= 300
    assert len({entry.answer for entry in known}) == len(known)
    assert len(held_out(known)) >= 300


def test_free_questions_are_known_and_never_trained_on() -> None:
    known = entries()
    names = {entry.name for entry in known}
    trained = {normal(question) for entry in known for question in entry.questions}
    free, blind = free_questions(), blind_questions(known)
    assert len(free) == 100 and len(blind) > 80
    for question, name in free + blind:
        assert name in names, name
        assert normal(question) not in trained, question


def test_the_shipped_files_are_an_ordinary_small_checkpoint() -> None:
    assert sum(path.stat().st_size for path in BUILT_IN.iterdir()) <= 8_000_000
    config = json.loads((BUILT_IN / "config.json").read_text())
    assert config["quantization"] == {"group_size": 64, "bits": 8}
