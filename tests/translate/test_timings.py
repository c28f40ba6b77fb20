"""The speed of an answer, on a clock that the test moves."""

from bessemer.translate.chat import Timings
from bessemer.translate.timings import Stopwatch


def test_the_first_prompt_and_the_first_token_set_the_times() -> None:
    now = 5.0
    watch = Stopwatch(lambda: now)
    assert watch.timings(0, 0, 0) == Timings(0, 0, 0.0, 0, 0.0)
    watch.begin()
    now = 7.0
    assert watch.timings(1, 0, 0) == Timings(1, 0, 0.0, 0, 0.0)
    watch.begin()  # another prompt's
    now = 8.0
    assert watch.timings(1, 4, 0) == Timings(1, 4, 3.0, 0, 0.0)
    watch.token()
    now = 12.0
    watch.token()
    assert watch.timings(1, 9, 3) == Timings(1, 9, 3.0, 3, 4.0)
