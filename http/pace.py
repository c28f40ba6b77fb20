"""The work on the events of all streams: each turn of the event loop does a bounded part of it."""

import asyncio
from collections import deque

WORK = 2048  # log probabilities that a turn makes text of; about 3 ms
LITTLE = WORK // 2  # with so much left it is time to begin anew; turns that do less need not
EACH = 16  # of them are as much work as an event without any


class Pace:
    """A queue of streams that have an event to give out, and what this turn still has time for.

    One serves all streams: neither very many of them, nor very many events of one, nor very large
    ones hold up whoever else the loop serves.
    """

    def __init__(self) -> None:
        self._left = WORK
        self._due = 0  # work of those that were told to go on, which they do in the next turn
        self._asked = False  # for the next turn
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    def allows(self, scores: int) -> bool:
        """Return whether this turn has time for an event with so many log probabilities."""
        if self._left <= 0 or self._waiting:
            return False
        self._left -= EACH + scores
        if self._left < LITTLE and not self._asked:
            self._ask()
        return True

    async def turn(self, scores: int) -> None:
        """Return in a turn that has time for such an event."""
        if self.allows(scores):
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append((waiter, EACH + scores))
        await waiter

    def _ask(self) -> None:
        self._asked = True
        asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._asked = False
        self._left, self._due = WORK - self._due, 0
        while self._waiting and self._due < WORK:
            waiter, work = self._waiting.popleft()
            if not waiter.done():  # else its stream is closed
                self._due += work
                waiter.set_result(None)
        if self._due or self._left < LITTLE:
            self._ask()
