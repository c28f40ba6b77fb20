"""The reading of all connections: each turn of the event loop is shared out among them."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

PIECE = 16384  # bytes that a socket is asked for, and that h11 is given, at once
EVENTS = 64  # of h11 between two turns of the event loop; about 1 ms
SHARE = 8  # of them that one connection takes before others that wait


class ReadQueue:
    """A queue of connections that wait to read on, and a count of what this turn still takes.

    One serves all connections, so that others wait for a share of each client that sends, however
    much that is. Sockets are read into `buffer`, one at a time.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Callable[[], None]] = deque()
        self._left = EVENTS
        self.buffer = bytearray(PIECE)

    def allows(self) -> bool:
        """Count an event; return whether it is one of this turn's."""
        if not self._left:
            return False
        if self._left == EVENTS:
            self._loop.call_soon(self._next_turn)
        self._left -= 1
        return True

    def share(self) -> Iterator[None]:
        """Yield for each event that a connection may take at once."""
        for _ in range(SHARE):
            if not self.allows():
                return
            yield

    def wait(self, read: Callable[[], None]) -> None:
        """Read in a turn to come; `read` counts an event, unless there is nothing to read."""
        self._waiting.append(read)

    def _next_turn(self) -> None:
        self._left = EVENTS
        while self._waiting and self._left:
            self._waiting.popleft()()
