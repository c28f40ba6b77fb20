"""A circuit breaker: a target that fails again and again is left alone for a while."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...engine.request import Refusal

FAILURES = 3  # one after the other, which open it
FIRST, LONGEST = 5.0, 60.0  # seconds that it stays open, doubled each time a probe fails
# What tells of a target's own state; a request that is refused for what it says does not.
ILL = frozenset({408, 500, 502, 503, 504, 529})


class Breaker:
    """What is known of a target's health: closed, it is asked; open, others are before it.

    Once it has been open for its time, one request is let through to see.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.busy = 0  # requests that wait for a first byte
        self._now = now
        self._failures = 0
        self._until = 0.0
        self._pause = FIRST

    @property
    def closed(self) -> bool:
        if self._failures < FAILURES:
            return True
        return self._now() >= self._until and not self.busy

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Count an attempt, and learn from how it ends; one that is given up says nothing."""
        self.busy += 1
        try:
            yield
        except Refusal as refusal:
            if refusal.status in ILL:
                self._failed()
            else:
                self._answered()
            raise
        else:
            self._answered()
        finally:
            self.busy -= 1

    def _answered(self) -> None:
        self._failures, self._pause = 0, FIRST

    def _failed(self) -> None:
        self._failures += 1
        if self._failures >= FAILURES:
            if self._failures > FAILURES:
                self._pause = min(2 * self._pause, LONGEST)
            self._until = self._now() + self._pause
