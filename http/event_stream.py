"""The events of requests on their way to whoever reads them, and how many may wait for that."""

import asyncio
from collections import deque
from collections.abc import Callable

from ..engine.request import Event, Refusal, Refused, Token

# Events, and log probabilities in them, that wait for a worker's readers: 30 to 80 MB.
UNREAD = 2**18


class Backlog:
    """What waits in all streams of a worker; beyond `limit`, the stream with most of it is ended.

    A client that reads nothing would else have its whole answer in memory, for as long as it takes
    to notice.
    """

    def __init__(self, limit: int = UNREAD) -> None:
        self._limit = limit
        self._size = 0
        self.streams: set[EventStream] = set()

    def add(self, count: int) -> None:
        self._size += count
        if self._size > self._limit:
            max(self.streams, key=lambda stream: stream.unread).give_up()

    def take(self, count: int) -> None:
        self._size -= count


class EventStream:
    """A stream of the events of requests, and a None every `tick` seconds to look at the clock.

    `forget` is told of requests that nobody waits for any more.
    """

    def __init__(
        self, ids: list[int], tick: float, forget: Callable[[set[int]], None], backlog: Backlog
    ) -> None:
        self._forget = forget
        self._events: deque[Event | None] = deque()
        self._waiter: asyncio.Future[None] | None = None  # one reader: a queue would cost twice
        self._loop = asyncio.get_running_loop()
        self._open = set(ids)
        self._backlog = backlog
        self.unread = 0
        backlog.streams.add(self)
        self._tick = tick
        self._timer = self._loop.call_later(tick, self._beat)

    async def next(self) -> Event | None:
        while not self._events:
            self._waiter = self._loop.create_future()
            await self._waiter
        event = self._events.popleft()
        self._read(weight(event))
        return event

    def put(self, event: Event | None) -> None:
        self._events.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self.unread += (count := weight(event))
        self._backlog.add(count)

    def over(self, request: int) -> None:
        """Note that a request has ended by itself: closing will not cancel it."""
        self._open.discard(request)

    def give_up(self) -> None:
        """End with a refusal, in place of all that was not read, if there was time to read it."""
        if len(self._events) == 1:  # a long prompt's log probabilities
            return
        message = "The answer was not read for so long that there is no memory to keep it."
        refusal = Refusal(408, "request_timeout", message)
        numbers = [event.request for event in self._events if event is not None]
        self._clear()
        self._forget(self._open)
        self.put(Refused.of(numbers[0], refusal))

    def close(self) -> None:
        """Let go of the requests; those that are not over are cancelled in the worker."""
        self._timer.cancel()
        self._clear()
        self._backlog.streams.discard(self)
        self._forget(self._open)

    def _clear(self) -> None:
        self._events.clear()
        self._read(self.unread)

    def _read(self, count: int) -> None:
        self.unread -= count
        self._backlog.take(count)

    def _beat(self) -> None:
        self._timer = self._loop.call_later(self._tick, self._beat)
        self.put(None)


def weight(event: Event | None) -> int:
    """Return what an event counts while it waits."""
    if not isinstance(event, Token):
        return 0 if event is None else 1
    return 1 + sum(1 + len(each.top) for each in (*event.logprobs, *event.prompt))
