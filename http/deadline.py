"""A timer that is moved often and rings seldom: moving it costs an assignment."""

import asyncio
import math
from collections.abc import Callable


class Deadline:
    """Calls `ring` once the time that was `set` last has passed."""

    __slots__ = ("_due", "_handle", "_loop", "_ring", "_wakes")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._due = self._wakes = math.inf
        self._handle: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        if self._due < self._wakes:
            self._schedule()

    def clear(self) -> None:
        self._due = math.inf

    def close(self) -> None:
        self._due = self._wakes = math.inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _schedule(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._wakes = self._due
        self._handle = self._loop.call_at(self._due, self._wake)

    def _wake(self) -> None:
        self._handle, self._wakes = None, math.inf
        if self._due <= self._loop.time():
            self._due = math.inf
            self._ring()
        elif self._due < math.inf:
            self._schedule()
