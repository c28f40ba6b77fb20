"""The speed of an answer and the progress of its prompt, on a clock that the test moves."""

from itertools import count

from bessemer.engine.request import GenerationDefaults, Prefilled, Started, Token
from bessemer.translate.answer import AnswerStream, Bounds
from bessemer.translate.chat import (
    AnswerStarted,
    Chat,
    Completion,
    Done,
    GenerationOptions,
    Progress,
    PromptProgress,
    Timings,
)
from bessemer.translate.timings import Stopwatch
from tests.translate.test_answer import HELLO, TOKENIZER, VOCABULARY, prompts_of, stream


def test_the_first_prompt_and_the_first_token_set_the_times() -> None:
    now = 5.0
    watch = Stopwatch(lambda: now)
    assert watch.prompt_seconds == 0.0
    assert watch.timings(0, 0, 0, 0) == Timings(0, 0, 0.0, 0, 0.0, 0)
    watch.begin()
    now = 7.0
    assert watch.timings(1, 0, 0, 0) == Timings(1, 0, 0.0, 0, 0.0, 0)
    watch.begin()  # another prompt's
    now = 8.0
    assert watch.timings(1, 4, 0, 0) == Timings(1, 4, 3.0, 0, 0.0, 0)
    watch.token()
    now = 12.0
    watch.token()
    assert watch.timings(1, 9, 3, 2) == Timings(1, 9, 3.0, 3, 4.0, 2)


def test_progress_and_timings_are_told_where_they_are_asked_for() -> None:
    """As llama.cpp's tests have it: the first report has what was cached, the last one all."""
    options = GenerationOptions(n=2, stream=True, progress=True, timings=True)
    request = Completion("m", ("Hello there, all of you",), options)
    seconds = iter(range(99))
    numbers = count(1)
    about = prompts_of(request), TOKENIZER, Bounds(200, 50, GenerationDefaults(), VOCABULARY)
    answer = AnswerStream(request, *about, lambda: next(numbers), 0, lambda: float(next(seconds)))
    assert [each.progress for each in answer.requests] == [True, True]
    total = len(answer.requests[0].tokens)
    events = [Started(1, 1), Started(2, total - 1), Prefilled(1, 3), Prefilled(2, total)]
    events += [Prefilled(1, total), Token(1, [300]), Token(1, [300], "stop"), Token(2, [], "stop")]
    told = [each for event in events for each in answer.take(event)]
    progress = [each for each in told if isinstance(each, PromptProgress)]
    assert [(e.choice, e.total, e.cached, e.processed) for e in progress] == [
        *((0, total, 1, processed) for processed in (1, 3, total)),
    ]
    assert 0 < progress[0].seconds < progress[1].seconds < progress[2].seconds
    timings = [each.timings for each in told if isinstance(each, Progress)]
    counts = [(t.cached, t.computed, t.written) for t in timings if t]
    assert counts == [(1, 0, 0), (1, 2, 0), *((1, total - 1, n) for n in (0, 1, 2, 2))]
    assert answer.done.timings and answer.done.timings.written == 2
    assert timings[-1] and 0 < timings[-1].writing < answer.done.timings.writing


def test_the_first_tokens_of_a_choice_are_no_part_of_its_pace() -> None:
    """They come of the prompt's last step, as in llama.cpp's test_metrics.py."""
    options = GenerationOptions(n=2, timings=True)
    answer = stream(Completion("m", ("Hello",), options))
    paces = []
    for event in (
        *(Started(id, 0) for id in (1, 2)),
        Token(1, []),
        Token(1, [300, 301]),
        Token(2, [300]),
        Token(1, [302]),
        Token(2, [301, 302], "stop"),
        Token(1, [], "stop"),
    ):
        list(answer.take(event))
        timings = answer.done.timings
        assert timings
        paces.append((timings.written, timings.later))
    assert paces == [(0, 0)] * 3 + [(2, 0), (3, 0), (4, 1), (6, 3), (6, 3)]


def test_nothing_is_told_of_progress_and_timings_unasked() -> None:
    answer = stream(Chat("m", HELLO))
    told = [e for event in (Started(1, 0), Prefilled(1, 3)) for e in answer.take(event)]
    assert [*map(type, told)] == [AnswerStarted] and answer.done == Done(answer.usage)
