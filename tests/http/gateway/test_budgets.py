"""What keys may ask, how often, and how much it may cost."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.auth import KEYED
from bessemer.http.gateway.budgets import Budgets
from bessemer.http.gateway.routing import Target
from bessemer.http.gateway.schema import KeyTable, PriceTable
from bessemer.translate.chat import Usage

CALLER = KEYED + sha256(b"secret").hexdigest()
TARGET = Target("openai", "gpt-5")
PRICES = {"openai/*": PriceTable(input=1, output=10)}


class Purse:
    """Spending that is kept in memory."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, str], float] = {}

    def of(self, key: str, period: str) -> float:
        return self.sums.get((key, period), 0.0)

    def add(self, key: str, period: str, cost: float) -> None:
        self.sums[key, period] = self.of(key, period) + cost


class Time:
    seconds = 0.0
    date = datetime(2026, 1, 31, 23, 0, tzinfo=UTC)


def budgets(purse: Purse | None = None, **about: Any) -> tuple[Budgets, Time]:
    time, table = Time(), KeyTable(key="secret", **about)
    keys = {"alice": ("secret", table)}
    clocks = (lambda: time.seconds), (lambda: time.date)
    return Budgets(keys, PRICES, purse or Purse(), *clocks), time


def refused(budgets: Budgets) -> Refusal:
    with pytest.raises(Refusal) as caught:
        budgets.admit(CALLER)
    return caught.value


def test_only_keys_with_names_have_limits() -> None:
    known, _ = budgets(requests_per_minute=1, models=[])
    for _ in range(3):
        known.admit("127.0.0.1")
    known.check("127.0.0.1", "gpt-5", TARGET)
    assert known.name(CALLER) == "alice" and known.name("127.0.0.1") == ""


def test_models_are_allowed_by_the_name_asked_or_by_what_it_means() -> None:
    for patterns in (["quick"], ["openai/*"], ["gpt-5"], ["x", "gpt-?"]):
        budgets(models=patterns)[0].check(CALLER, "quick", TARGET)
    budgets()[0].check(CALLER, "quick", TARGET)
    for patterns in ([], ["gpt"], ["local/*"]):
        with pytest.raises(Refusal) as caught:
            budgets(models=patterns)[0].check(CALLER, "quick", TARGET)
        assert (caught.value.status, caught.value.field) == (403, "model")


def test_requests_a_minute() -> None:
    known, time = budgets(requests_per_minute=2)
    known.admit(CALLER)
    known.admit(CALLER)
    refusal = refused(known)
    assert (refusal.status, refusal.retry_after) == (429, 30)
    time.seconds = 30
    known.admit(CALLER)


def test_tokens_a_minute_are_those_of_the_last_minute() -> None:
    known, time = budgets(tokens_per_minute=100)
    known.spent(CALLER, TARGET, Usage(50, 10))
    known.admit(CALLER)
    time.seconds = 20
    known.spent(CALLER, TARGET, Usage(30, 10))
    refusal = refused(known)
    assert (refusal.status, refusal.retry_after) == (429, 40)
    assert refusal.message == "More than 100 tokens a minute; try again in 40 s."
    time.seconds = 59.5
    assert refused(known).retry_after == 1
    time.seconds = 60
    known.admit(CALLER)
    known.spent(CALLER, TARGET, Usage(500, 0))
    assert refused(known).retry_after == 60


@pytest.mark.parametrize(
    ("period", "name", "wait", "later"),
    [
        ("day", "2026-01-31", 3600, datetime(2026, 2, 1, tzinfo=UTC)),
        ("month", "2026-01", 3600, datetime(2026, 2, 1, tzinfo=UTC)),
    ],
)
def test_a_budget_is_spent_by_prices_and_begins_anew(
    period: str, name: str, wait: int, later: datetime
) -> None:
    purse = Purse()
    known, _ = budgets(purse, budget=0.002, period=period)
    known.spent(CALLER, TARGET, Usage(999, 100))
    known.admit(CALLER)  # 0.001999 of 0.002
    known.spent(CALLER, Target(None, "free"), Usage(10**9, 0))
    known.admit(CALLER)
    known.spent(CALLER, TARGET, Usage(1, 0))
    assert purse.sums == {("alice", name): pytest.approx(0.002)}
    refusal = refused(known)
    assert (refusal.status, refusal.code, refusal.retry_after) == (429, "insufficient_quota", wait)
    restarted, again = budgets(purse, budget=0.002, period=period)
    assert refused(restarted).retry_after == wait  # what was spent outlives a server
    again.date = later
    restarted.admit(CALLER)


def test_december_ends_with_the_year() -> None:
    known, time = budgets(budget=0)
    time.date = datetime(2026, 12, 31, 23, 59, 30, tzinfo=UTC)
    assert refused(known).retry_after == 30
