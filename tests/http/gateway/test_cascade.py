"""Targets tried one after the other, until one answers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.gateway import cascade as module
from bessemer.http.gateway.breaker import FAILURES
from bessemer.http.gateway.cascade import PASSING, UNREACHED, Cascade, may_pass
from bessemer.http.gateway.routing import Decision, Target
from bessemer.http.gateway.schema import TierTable

A, B, C = (Target("p", name) for name in "abc")
Does = Refusal | float  # refuses, or answers after so many seconds


def decision(*targets: Target, **about: object) -> Decision:
    tier = TierTable(targets=[str(each) for each in targets], **about) if about else None  # type: ignore[arg-type]
    return Decision(targets, "tier", tier=tier)


class Asked:
    """Attempts whose ends are set; it remembers which were made, given up and discarded."""

    def __init__(self, **does: Does) -> None:
        self.does = does
        self.made: list[str] = []
        self.last: list[str] = []
        self.given_up: list[str] = []
        self.discarded: list[str] = []

    async def __call__(self, target: Target, last: bool) -> str:
        self.made.append(target.model)
        self.last += [target.model] if last else []
        end = self.does.get(target.model, 0.0)
        if isinstance(end, Refusal):
            raise end
        try:
            await asyncio.sleep(end)
        except asyncio.CancelledError:
            self.given_up.append(target.model)
            raise
        return target.model

    async def discard(self, answer: str) -> None:
        self.discarded.append(answer)


def answered(asked: Asked, what: Decision, cascade: Cascade | None = None) -> str:
    cascade = cascade or Cascade()
    answer, target = asyncio.run(cascade.answered(what, asked, asked.discard))
    assert answer == target.model
    return answer


def refusal(status: int, code: str = "x") -> Refusal:
    return Refusal(status, code, "No.")


@pytest.mark.parametrize("status", sorted(PASSING))
def test_k13_the_next_target_is_asked_where_one_is_not_able_to(status: int) -> None:
    """K1.3: connection failures are 502, timeouts 504, full queues 429 or 503."""
    asked = Asked(a=refusal(status), b=refusal(429))
    assert answered(asked, decision(A, B, C)) == "c" and asked.made == ["a", "b", "c"]
    assert asked.last == ["c"]


def test_what_no_other_target_would_mend_is_refused_at_once() -> None:
    for status in (400, 401, 403, 404, 413, 422):
        asked = Asked(a=refusal(status))
        with pytest.raises(Refusal):
            answered(asked, decision(A, B))
        assert asked.made == ["a"] and not may_pass(refusal(status))
    too_long = refusal(400, "context_length_exceeded")
    assert answered(Asked(a=too_long), decision(A, B)) == "b"


def test_the_last_refusal_is_what_the_client_is_told() -> None:
    last = refusal(503)
    with pytest.raises(Refusal) as caught:
        answered(Asked(a=refusal(429), b=last), decision(A, B))
    assert caught.value is last


def test_a_target_that_gives_no_first_byte_in_time_is_given_up() -> None:
    asked = Asked(a=60.0, b=0.0)
    assert answered(asked, decision(A, B, first_byte=0.05)) == "b"
    assert asked.given_up == ["a"]
    asked = Asked(a=60.0, b=0.2)
    assert answered(asked, decision(A, B, first_byte=0.05)) == "b"  # the last one has all the time


def test_a_lone_target_that_was_not_reached_is_tried_once_more() -> None:
    asked = Asked(a=refusal(502, UNREACHED))
    with pytest.raises(Refusal):
        answered(asked, decision(A))
    assert asked.made == asked.last == ["a", "a"]
    asked = Asked(a=refusal(502))  # which may have been worked on
    with pytest.raises(Refusal):
        answered(asked, decision(A))
    assert asked.made == ["a"]


def test_the_unhealthy_are_asked_last() -> None:
    cascade, asked = Cascade(), Asked(a=refusal(503))
    for _ in range(FAILURES):
        assert answered(asked, decision(A, B), cascade) == "b"
    assert [*cascade.order(decision(A, B, C))] == [B, C, A]
    del asked.made[:]
    assert answered(asked, decision(A, B), cascade) == "b" and asked.made == ["b"]
    with pytest.raises(Refusal):  # where there is no other, it is asked nevertheless
        answered(asked, decision(A), cascade)


def test_the_least_busy_is_asked_first() -> None:
    cascade = Cascade()
    cascade.breaker(A).busy, cascade.breaker(B).busy = 2, 1
    assert [*cascade.order(decision(A, B, C, choice="least_busy"))] == [C, B, A]
    assert [*cascade.order(decision(A, B, C))] == [A, B, C]


def test_only_so_many_targets_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients may name any model of a provider's."""
    monkeypatch.setattr(module, "TARGETS", 3)
    cascade = Cascade()
    for name in "abcad":
        cascade.breaker(Target("p", name))
    assert [each.model for each in cascade.breakers] == ["c", "a", "d"]


def test_weights_are_shares_of_the_first_place() -> None:
    cascade = Cascade(draw=Random(1))
    what = decision(A, B, choice="weighted", weights=[3, 1])
    first = [cascade.order(what)[0] for _ in range(4000)]
    assert 2850 < first.count(A) < 3150


def raced(does: Sequence[tuple[str, Does]]) -> tuple[str, Asked]:
    asked = Asked(**dict(does))
    return answered(asked, decision(A, B, C, hedge=0.05)), asked


def test_a_hedge_asks_the_next_target_as_well() -> None:
    answer, asked = raced([("a", 60.0), ("b", 0.0)])
    assert (answer, asked.made, asked.given_up) == ("b", ["a", "b"], ["a"])
    answer, asked = raced([("a", 0.0)])
    assert (answer, asked.made) == ("a", ["a"])
    answer, asked = raced([("a", 0.1), ("b", 60.0), ("c", 60.0)])
    assert answer == "a" and sorted(asked.given_up) == [*asked.made[1:]]


def test_a_hedge_goes_on_at_once_after_a_refusal_and_stops_at_one_for_good() -> None:
    answer, asked = raced([("a", refusal(503)), ("b", refusal(503))])
    assert (answer, asked.made) == ("c", ["a", "b", "c"])
    with pytest.raises(Refusal):
        raced([("a", refusal(400))])
    with pytest.raises(Refusal):
        raced([(name, refusal(503)) for name in "abc"])


def test_an_answer_that_comes_second_is_discarded() -> None:
    asked = Asked()

    async def both() -> str:
        gate = asyncio.Event()

        async def attempt(target: Target, last: bool) -> str:
            await gate.wait()
            return target.model

        racing = asyncio.ensure_future(
            Cascade().answered(decision(A, B, hedge=0.01), attempt, asked.discard)
        )
        await asyncio.sleep(0.1)
        gate.set()
        answer, _ = await racing
        return answer

    answer = asyncio.run(both())
    assert {answer, *asked.discarded} == {"a", "b"}


def test_who_is_cancelled_gives_up_all_attempts() -> None:
    asked = Asked(a=60.0, b=60.0)

    async def leave(make: Callable[[], Awaitable[object]]) -> None:
        task = asyncio.ensure_future(make())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    what = decision(A, B, hedge=0.01)
    asyncio.run(leave(lambda: Cascade().answered(what, asked, asked.discard)))
    assert sorted(asked.given_up) == ["a", "b"]
