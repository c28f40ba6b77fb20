"""Clients' keys by name: what each may ask, how often, and what it has spent."""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Protocol

from ...engine.request import Refusal
from ...translate.chat import Usage
from ..auth import KEYED
from ..limits import RateLimit
from .prices import cost, price_of
from .routing import Target
from .schema import KeyTable, PriceTable

MINUTE = 60.0
SHOWN = 200  # characters of a name in a message


class Spending(Protocol):
    """What keys have spent, by the key's name and its period: kept for as long as need be."""

    def of(self, key: str, period: str) -> float: ...

    def add(self, key: str, period: str, cost: float) -> None: ...


class Client:
    """A key's limits, and how far it is from them."""

    def __init__(self, name: str, table: KeyTable, clock: Callable[[], float]) -> None:
        self.name = name
        self.table = table
        self.rate = RateLimit(table.requests_per_minute, clock)
        self._clock = clock
        self._tokens: deque[tuple[float, int]] = deque()  # of the last minute, with their time

    def may_ask(self, model: str, target: Target) -> bool:
        """Return whether a model may be asked for by the name given, or by what it stands for."""
        allowed = self.table.models
        names = (model, str(target), target.model)
        return allowed is None or any(fnmatchcase(n, each) for n in names for each in allowed)

    def count(self, tokens: int) -> None:
        if self.table.tokens_per_minute:
            self._tokens.append((self._clock(), tokens))

    def wait(self) -> float:
        """Return the seconds until the last minute's tokens are below the limit."""
        limit, now = self.table.tokens_per_minute, self._clock()
        while self._tokens and self._tokens[0][0] <= now - MINUTE:
            self._tokens.popleft()
        left = sum(tokens for _, tokens in self._tokens)
        for at, tokens in self._tokens:
            if left < limit:
                break
            left -= tokens
            if left < limit:
                return at + MINUTE - now
        return 0.0


class Budgets:
    """The clients by their keys; who has a key without a name has no limits of its own."""

    def __init__(
        self,
        keys: Mapping[str, tuple[str, KeyTable]],
        prices: Mapping[str, PriceTable],
        spending: Spending,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take each key's secret and table by its name."""
        self._clients = {
            KEYED + sha256(key.encode()).hexdigest(): Client(name, table, clock)
            for name, (key, table) in keys.items()
        }
        self._prices = prices
        self._spending = spending
        self._now = now

    def name(self, caller: str) -> str:
        """Return a caller's name; an unnamed one has none."""
        client = self._clients.get(caller)
        return client.name if client else ""

    def admit(self, caller: str) -> None:
        """Count a request. Raises Refusal 429, which says how long to wait."""
        if (client := self._clients.get(caller)) is None:
            return
        client.rate.take(caller)
        if wait := client.wait():
            limit = client.table.tokens_per_minute
            raise _spent(f"More than {limit} tokens a minute", wait, "rate_limit_exceeded")
        budget = client.table.budget
        if budget is None:
            return
        period, ends = _period(client.table.period, self._now())
        if self._spending.of(client.name, period) >= budget:
            wait = (ends - self._now()).total_seconds()
            what = f"The budget of {budget:g} a {client.table.period} is spent"
            raise _spent(what, wait, "insufficient_quota")

    def check(self, caller: str, model: str, target: Target) -> None:
        """Raise Refusal 403 where a caller's key may not ask for a model."""
        client = self._clients.get(caller)
        if client is not None and not client.may_ask(model, target):
            message = f"This key may not ask for the model {model[:SHOWN]!r}."
            raise Refusal(403, "model_not_allowed", message, "model")

    def spent(self, caller: str, target: Target, usage: Usage) -> None:
        """Count an answer's tokens and what they cost, if the target has a price."""
        if (client := self._clients.get(caller)) is None:
            return
        client.count(usage.prompt + usage.completion)
        if price := price_of(target, self._prices):
            period, _ = _period(client.table.period, self._now())
            self._spending.add(client.name, period, cost(usage, price))


def _spent(what: str, wait: float, code: str) -> Refusal:
    seconds = max(math.ceil(wait), 1)
    return Refusal(429, code, f"{what}; try again in {seconds} s.", retry_after=seconds)


def _period(period: str, now: datetime) -> tuple[str, datetime]:
    """Return the name of the period that a moment is in, and when it ends."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return f"{day:%Y-%m-%d}", day + timedelta(days=1)
    month = day.replace(day=1)
    return f"{month:%Y-%m}", (month + timedelta(days=32)).replace(day=1)
