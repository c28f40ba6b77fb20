"""Tests of what is told of answers under way."""

from itertools import count
from time import monotonic

import pytest

from bessemer.engine.request import GenerationDefaults, Started, Token
from bessemer.http.activity import Activity
from bessemer.http.stopwatch import Stopwatch
from bessemer.translate.answer import AnswerStream, Bounds
from bessemer.translate.chat import Completion, GenerationOptions, Usage
from bessemer.translate.renderer import Prompt
from tests.translate.scripted import scripting_tokenizer


def test_sequences_are_told_of_until_they_are_over() -> None:
    activity, numbers = Activity(), count(7)
    asked = Completion("m", ("ab",), GenerationOptions(n=2, max_tokens=9))
    bounds = Bounds(99, 99, GenerationDefaults(), 999)
    about = scripting_tokenizer(["ab"], []), bounds, lambda: next(numbers), 0, monotonic
    answer = AnswerStream(asked, [Prompt([97, 98])], *about)
    watch = Stopwatch()
    with activity.under_way(answer, watch):
        waiting = activity.running()
        assert [each.request.id for each in waiting] == [7, 8]
        assert not any(each.running or each.completion for each in waiting)
        for event in (Started(7, 1), Token(7, [97]), Token(7, [98])):
            watch.take(event)
            list(answer.take(event))
        first, second = activity.running()
        assert (first.running, first.cached, first.completion) == (True, 1, 2)
        assert not second.running and first.first is not None and first.seconds >= first.first > 0
        assert [*answer.take(Token(7, [97], "length"))]
        assert [each.request.id for each in activity.running()] == [8]
        assert activity.requests == 0
    assert activity.running() == []
    assert (activity.requests, activity.prompt_tokens, activity.completion_tokens) == (1, 2, 3)
    activity.done(Usage(5, 0))
    assert (activity.requests, activity.prompt_tokens) == (2, 7)


def test_one_that_breaks_off_is_over_too() -> None:
    activity = Activity()
    numbers = count(1)
    bounds = Bounds(99, 99, GenerationDefaults(), 999)
    about = scripting_tokenizer(["ab"], []), bounds, lambda: next(numbers), 0, monotonic
    answer = AnswerStream(Completion("m", ("ab",)), [Prompt([97])], *about)
    with pytest.raises(KeyError), activity.under_way(answer, Stopwatch()):
        raise KeyError
    assert activity.running() == [] and activity.requests == 1
