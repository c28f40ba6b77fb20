"""Targets one after the other, until one answers: which first, how long, and what stops it."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from ...engine.request import Refusal
from .breaker import Breaker
from .routing import Decision, Target

Answer = TypeVar("Answer")
Attempt = Callable[[Target, bool], Awaitable[Answer]]  # the last target is told so
Discard = Callable[[Answer], Awaitable[None]]  # gives up an answer that came second

# What another target may do better: it is not there, too busy, broken, or too slow.
PASSING = frozenset({408, 429, 500, 502, 503, 504, 529})
TOO_LONG = "context_length_exceeded"
RETRY = 0.05, 0.25  # seconds, between which a lone target that was not reached is tried again
TARGETS = 10_000  # whose health is known at once: a client may name any model of a provider's
UNREACHED = "unreachable"  # the code of a refusal before which nothing was sent


def may_pass(refusal: Refusal) -> bool:
    """Return whether another target might answer what was refused so."""
    return refusal.status in PASSING or refusal.code == TOO_LONG


@dataclass(frozen=True, slots=True)
class Cascade:
    """Asks the targets of decisions, and remembers which are healthy."""

    breakers: OrderedDict[Target, Breaker] = field(default_factory=OrderedDict)
    draw: random.Random = field(default_factory=random.Random)

    async def answered(
        self, decision: Decision, attempt: Attempt[Answer], discard: Discard[Answer]
    ) -> tuple[Answer, Target]:
        """Return the first answer and whose it is; an attempt ends with its first byte.

        Raises the last target's Refusal, or at once one that no other would mend.
        """
        order = self.order(decision)
        if len(order) == 1:
            return await self._alone(order[0], attempt)
        tier = decision.tier
        if tier is not None and tier.hedge is not None:
            return await self._hedged(order, attempt, discard, tier.hedge)
        limit = tier.first_byte if tier is not None else None
        for target in order[:-1]:
            try:
                return await self._tried(target, attempt, limit), target
            except Refusal as refusal:
                if not may_pass(refusal):
                    raise
        return await self._tried(order[-1], attempt, last=True), order[-1]

    def order(self, decision: Decision) -> Sequence[Target]:
        """Return a decision's targets, the healthy ones first, each group as its tier says."""
        targets, tier = [*decision.targets], decision.tier
        if tier is not None and tier.choice == "least_busy":
            targets.sort(key=lambda each: self.breaker(each).busy)
        elif tier is not None and tier.weights is not None:
            keys = dict(zip(targets, map(self._key, tier.weights), strict=True))
            targets.sort(key=keys.__getitem__)
        return sorted(targets, key=lambda each: not self.breaker(each).closed)

    def breaker(self, target: Target) -> Breaker:
        """Return a target's; of many the one not asked for longest is forgotten."""
        breaker = self.breakers.setdefault(target, Breaker())
        self.breakers.move_to_end(target)
        if len(self.breakers) > TARGETS:
            self.breakers.popitem(last=False)
        return breaker

    def _key(self, weight: float) -> float:
        """Return what to sort by, so that the first is each by its weight's share."""
        return self.draw.expovariate(weight)

    async def _alone(self, target: Target, attempt: Attempt[Answer]) -> tuple[Answer, Target]:
        try:
            return await self._tried(target, attempt, last=True), target
        except Refusal as refusal:
            if refusal.code != UNREACHED:
                raise
        await asyncio.sleep(self.draw.uniform(*RETRY))
        return await self._tried(target, attempt, last=True), target

    async def _tried(
        self,
        target: Target,
        attempt: Attempt[Answer],
        limit: float | None = None,
        last: bool = False,
    ) -> Answer:
        with self.breaker(target).trying():
            try:
                async with asyncio.timeout(limit):
                    return await attempt(target, last)
            except TimeoutError:
                message = f"{target} gave no first byte within {limit:g} s."
                raise Refusal(504, "timeout", message) from None

    async def _hedged(
        self,
        order: Sequence[Target],
        attempt: Attempt[Answer],
        discard: Discard[Answer],
        after: float,
    ) -> tuple[Answer, Target]:
        """Ask the next target too whenever the others are silent for so long, or have refused."""
        left, refusals = list(order), list[Refusal]()
        tasks: dict[asyncio.Task[Answer], Target] = {}
        try:
            while left or tasks:
                if left:
                    target = left.pop(0)
                    tasks[asyncio.ensure_future(self._tried(target, attempt))] = target
                timeout = after if left else None
                done, _ = await asyncio.wait(
                    tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    target = tasks.pop(task)
                    try:
                        return task.result(), target
                    except Refusal as refusal:
                        if not may_pass(refusal):
                            raise
                        refusals.append(refusal)
            raise refusals[-1]
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError, Refusal):
                    await discard(await task)
