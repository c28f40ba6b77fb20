"""The rate limit on a clock of the test's own, and the time limit of an answer."""

import asyncio

import pytest

from bessemer.engine.request import Refusal
from bessemer.http import limits
from bessemer.http.limits import ConnectionLimits, RateLimit, within
from bessemer.http.message import Reply, Response


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def refused(limit: RateLimit, caller: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        limit.take(caller)
    assert (caught.value.status, caught.value.code) == (429, "rate_limit_exceeded")
    return caught.value


def test_a_minute_s_requests_and_no_more() -> None:
    clock = Clock()
    limit = RateLimit(3, clock)
    for _ in range(3):
        limit.take("a")
    assert refused(limit, "a").retry_after == 20
    limit.take("b")
    clock.now += 19
    assert refused(limit, "a").retry_after == 1
    clock.now += 1
    limit.take("a")
    refused(limit, "a")


def test_waiting_as_told_is_enough() -> None:
    clock = Clock()
    limit = RateLimit(7, clock)
    for _ in range(7):
        limit.take("a")
    for _ in range(20):
        clock.now += refused(limit, "a").retry_after or 0
        limit.take("a")


def test_a_full_bucket_does_not_run_over() -> None:
    clock = Clock()
    limit = RateLimit(2, clock)
    limit.take("a")
    clock.now += 3600
    limit.take("a")
    limit.take("a")
    refused(limit, "a")


def test_zero_is_no_limit() -> None:
    limit = RateLimit(0)
    for _ in range(1000):
        limit.take("a")


def test_the_longest_unheard_of_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENTS", 2)
    limit = RateLimit(1, Clock())
    limit.take("a")
    limit.take("b")
    refused(limit, "a")
    limit.take("c")  # forgets b
    refused(limit, "a")
    limit.take("b")


def test_an_answer_that_takes_too_long() -> None:
    async def never() -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(Refusal) as caught:
        asyncio.run(within(0.001, never()))
    assert (caught.value.status, caught.value.code) == (504, "timeout")


def test_an_answer_in_time_and_an_error_of_its_own() -> None:
    async def quick() -> Reply:
        return Response(200, b"")

    async def times_out() -> Reply:
        raise TimeoutError("its own")

    assert asyncio.run(within(60, quick())) == Response(200, b"")
    with pytest.raises(TimeoutError, match="its own"):
        asyncio.run(within(60, times_out()))


def test_what_a_client_may_take_is_what_the_readme_says() -> None:
    usual = ConnectionLimits()
    assert (usual.body, usual.bodies, usual.connections) == (10 * 2**20, 24 * 2**20, 1000)
    assert (usual.header, usual.whole, usual.rate, usual.stall) == (10, 60, 64 * 1024, 60)
