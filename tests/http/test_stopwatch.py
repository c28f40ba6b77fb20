"""Tests of the times of an answer."""

import pytest

from bessemer.engine.request import Started, Token
from bessemer.http import stopwatch
from bessemer.http.stopwatch import Stopwatch
from bessemer.translate.chat import Durations


def test_each_moment_is_the_first_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100, 900, 100))
    monkeypatch.setattr(stopwatch, "monotonic_ns", lambda: next(clock))
    watch = Stopwatch()  # 100
    watch.loaded()  # 200
    watch.take(Started(1, 0))  # 300
    watch.take(Started(2, 0))
    watch.take(Token(1, []))  # only log probabilities of the prompt
    watch.take(Token(1, [5]))  # 400
    watch.take(Token(1, [6]))
    assert watch.durations() == Durations(total=400, load=100, prompt=100, completion=100)


def test_what_has_not_come_took_no_time() -> None:
    watch = Stopwatch()
    watch.loaded()
    times = watch.durations()
    assert (times.prompt, times.completion) == (0, 0) and times.total >= times.load >= 0
