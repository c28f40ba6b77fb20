"""When a target counts as healthy."""

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.gateway.breaker import FAILURES, FIRST, LONGEST, Breaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def failing(breaker: Breaker, status: int = 503, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(Refusal), breaker.trying():
            raise Refusal(status, "x", "x")


def test_it_opens_after_failures_one_after_the_other() -> None:
    breaker = Breaker(Clock())
    failing(breaker, times=FAILURES - 1)
    with breaker.trying():
        assert breaker.busy == 1
    assert breaker.busy == 0
    failing(breaker, times=FAILURES - 1)
    assert breaker.closed
    failing(breaker)
    assert not breaker.closed


@pytest.mark.parametrize("status", [400, 401, 404, 413, 429])
def test_what_a_request_is_refused_for_says_nothing_of_health(status: int) -> None:
    breaker = Breaker(Clock())
    failing(breaker, status, 2 * FAILURES)
    assert breaker.closed


def test_an_open_one_lets_one_request_through_after_its_time() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    failing(breaker, times=FAILURES)
    pause = FIRST
    for _ in range(6):
        clock.now += pause - 1
        assert not breaker.closed
        clock.now += 1
        assert breaker.closed
        with pytest.raises(Refusal), breaker.trying():
            assert not breaker.closed  # a second one is not let through
            raise Refusal(500, "x", "x")
        pause = min(2 * pause, LONGEST)
    clock.now += LONGEST
    with breaker.trying():
        pass
    assert breaker.closed
    failing(breaker, times=FAILURES)
    clock.now += FIRST
    assert breaker.closed  # the pause begins anew


def test_what_is_given_up_says_nothing() -> None:
    breaker = Breaker(Clock())
    failing(breaker, times=FAILURES - 1)
    with pytest.raises(KeyboardInterrupt), breaker.trying():
        raise KeyboardInterrupt
    assert breaker.busy == 0
    failing(breaker)
    assert not breaker.closed
