"""The events of requests on their way to whoever reads them, and how much may wait or be kept."""

import asyncio
from collections import deque
from collections.abc import Callable

from msgspec.structs import replace

from ..engine.request import Event, Refusal, Refused, Token
from .pace import Pace

# Events, and log probabilities in them, that wait for a worker's clients: 30 to 80 MB.
UNREAD = 2**18
# The same that wait for their turn of the loop, where clients read; log probabilities in answers
# that are not streamed, which are kept until all is there: 250 MB.
BUSY = KEPT = 2**21
PIECE = 16  # of a prompt's tokens that are given out at once, with their log probabilities
NOT_READ = Refusal(
    408,
    "request_timeout",
    "The answer was not read for so long that there is no memory to keep it.",
)
TOO_MANY = Refusal(
    503,
    "overloaded",
    f"Answers under way may have {KEPT} log probabilities together where they are not streamed, "
    "and this one has most of them: stream it, or ask for fewer tokens or alternatives.",
    retry_after=5,
)


class Backlog:
    """What all streams of a worker hold; beyond `limit`, the one with most of it is refused.

    A client that reads nothing, or asks for very much, would else have its whole answer in memory.
    Those that are being read, as fast as the machine can, may hold `busy` more together.
    """

    def __init__(self, limit: int, refusal: Refusal, busy: int = 0) -> None:
        self._limit, self._refusal, self._busy = limit, refusal, busy
        self._size = 0
        self._sizes: dict[EventStream, int] = {}

    def add(self, stream: "EventStream", count: int) -> None:
        self._sizes[stream] = self._sizes.get(stream, 0) + count
        self._size += count
        if self._size > self._limit:
            self._refuse_one()

    def take(self, stream: "EventStream", count: int) -> None:
        self._sizes[stream] -= count
        self._size -= count

    def drop(self, stream: "EventStream") -> None:
        self._size -= self._sizes.pop(stream, 0)

    def _refuse_one(self) -> None:
        sizes = self._sizes
        if self._size <= self._limit + self._busy:
            sizes = {each: size for each, size in sizes.items() if not each.reading}
        if sum(sizes.values()) > self._limit:
            max(sizes, key=sizes.__getitem__).give_up(self._refusal)


class EventStream:
    """A stream of the events of requests, and a None every `tick` seconds to look at the clock.

    The first of these comes after `first` seconds, if that is another time. `forget` is told of
    requests that nobody waits for any more. What is read counts as `kept`, if it is, until the
    stream is closed.
    """

    def __init__(
        self,
        ids: list[int],
        tick: float,
        forget: Callable[[set[int]], None],
        pace: Pace,
        unread: Backlog,
        kept: Backlog | None = None,
        first: float | None = None,
    ) -> None:
        self._forget = forget
        self._events: deque[Event | None] = deque()
        self._waiter: asyncio.Future[None] | None = None  # one reader: a queue would cost twice
        self._loop = asyncio.get_running_loop()
        self._first, self._open = ids[0], set(ids)
        self._pace, self._unread, self._kept = pace, unread, kept
        self.reading = False
        self._tick = tick
        self._timer = self._loop.call_later(tick if first is None else first, self._beat)

    async def next(self) -> Event | None:
        """Return the next event, in a turn of the loop that has time for it."""
        self.reading = True
        while not self._events:
            self._waiter = self._loop.create_future()
            await self._waiter
        event, rest = self._events.popleft(), None
        if found := scores(event):
            event, rest = _split(event)
            if rest is not None:
                self._events.appendleft(rest)
                found = scores(event)
        if event is not None:
            self._unread.take(self, found + (rest is None))
            if self._kept is not None:
                self._kept.add(self, found)
        if not self._pace.allows(found):
            await self._pace.turn(found)
        self.reading = False
        return event

    def put(self, event: Event | None) -> None:
        self._events.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if event is not None:
            self._unread.add(self, 1 + scores(event))

    def over(self, request: int) -> None:
        """Note that a request has ended by itself: closing will not cancel it."""
        self._open.discard(request)

    def give_up(self, refusal: Refusal) -> None:
        """End with a refusal, in place of all that was not read, if there was time to read it."""
        if len(self._events) == 1:  # a long prompt's log probabilities
            return
        self._clear()
        self._forget(self._open)
        self.put(Refused.of(self._first, refusal))

    def close(self) -> None:
        """Let go of the requests; those that are not over are cancelled in the worker."""
        self._timer.cancel()
        self._clear()
        self._forget(self._open)

    def _clear(self) -> None:
        self._events.clear()
        self._unread.drop(self)
        if self._kept is not None:
            self._kept.drop(self)

    def _beat(self) -> None:
        self._timer = self._loop.call_later(self._tick, self._beat)
        self.put(None)


def scores(event: Event | None) -> int:
    """Count the log probabilities in an event, which are what takes memory and time."""
    if not isinstance(event, Token) or not (event.logprobs or event.prompt):
        return 0
    return sum(1 + len(each.top) for each in (*event.logprobs, *event.prompt))


def _split(event: Event | None) -> tuple[Event | None, Event | None]:
    """Return a part of a long prompt's log probabilities, and the rest; else the event itself."""
    if not isinstance(event, Token) or len(event.prompt) <= PIECE:
        return event, None
    part = Token(event.request, [], prompt=event.prompt[:PIECE])
    return part, replace(event, prompt=event.prompt[PIECE:])
