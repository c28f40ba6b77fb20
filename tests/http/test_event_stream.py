"""Streams that nobody reads: how much waits for a reader, and whose answer is given up."""

import asyncio
from collections.abc import Callable

import pytest

from bessemer.engine.request import Embedded, Event, Refused, Started, Token, TokenLogprobs
from bessemer.http.event_stream import NOT_READ, PIECE, TOO_MANY, Backlog, EventStream, scores
from bessemer.http.pace import Pace
from tests.http.scripted_worker import later
from tests.http.wire import run

Forget = Callable[[set[int]], None]


def token(number: int) -> Token:
    return Token(number, [1])


def opened(
    ids: list[int], backlog: Backlog, forget: Forget = lambda _: None, kept: Backlog | None = None
) -> EventStream:
    return EventStream(ids, 100.0, forget, Pace(), backlog, kept)


def held(backlog: Backlog) -> list[int]:
    return [*backlog._sizes.values()]


def test_what_waits_counts_until_it_is_read_or_let_go() -> None:
    async def main() -> None:
        forgotten: list[set[int]] = []
        backlog = Backlog(10, NOT_READ)
        slow, quick = (opened([n], backlog, forgotten.append) for n in (1, 2))
        for _ in range(50):  # many, but never many at once
            quick.put(token(2))
            assert await quick.next() == token(2)
        for _ in range(9):
            slow.put(token(1))
        slow.put(None)
        quick.put(token(2))
        assert (held(backlog), forgotten) == ([1, 9], [])
        slow.close()
        for _ in range(9):
            quick.put(token(2))
        assert held(backlog) == [10] and forgotten == [{1}]
        quick.close()
        assert held(backlog) == [] and backlog._size == 0

    run(main)


def test_the_longest_backlog_is_given_up_with_a_refusal_and_its_request_cancelled() -> None:
    async def main() -> None:
        forgotten: list[set[int]] = []
        backlog = Backlog(10, NOT_READ)
        slow = opened([1, 3], backlog, forgotten.append)
        quick = opened([2], backlog, forgotten.append)
        slow.over(3)
        quick.put(token(2))
        for _ in range(10):
            assert forgotten == []
            slow.put(token(1))
        assert forgotten == [{1}] and held(backlog) == [1, 1]
        async with asyncio.timeout(10):
            event = await slow.next()
            assert isinstance(event, Refused)
            assert (event.request, event.status, event.code) == (1, 408, "request_timeout")
            assert await quick.next() == token(2)
        for each in (slow, quick):
            each.close()
        assert backlog._size == 0

    run(main)


def test_one_large_event_is_no_backlog() -> None:
    async def main() -> None:
        stream = opened([1], Backlog(3, NOT_READ))
        large = Token(1, [1], prompt=LOGPROBS * 2)
        for _ in range(2):
            stream.put(large)
            assert await stream.next() == large
        stream.close()

    run(main)


def test_a_stream_that_is_read_may_hold_more_and_no_other_is_given_up_for_it() -> None:
    async def main() -> None:
        forgotten: list[set[int]] = []
        backlog = Backlog(10, NOT_READ, busy=20)
        busy, idle = (opened([n], backlog, forgotten.append) for n in (1, 2))
        busy.reading = True  # its reader waits for a turn of the loop
        idle.put(token(2))
        for _ in range(29):
            busy.put(token(1))
        assert forgotten == []
        busy.put(token(1))
        assert forgotten == [{1}]
        for each in (busy, idle):
            each.close()

    run(main)


def test_what_is_kept_counts_until_its_stream_is_closed() -> None:
    async def main() -> None:
        forgotten: list[set[int]] = []
        kept, unread = Backlog(10, TOO_MANY), Backlog(1000, NOT_READ)
        one, other = (opened([n], unread, forgotten.append, kept) for n in (1, 2))
        event = Token(1, [1], logprobs=LOGPROBS)
        for _ in range(3):
            one.put(event)
            assert await one.next() == event
        assert kept._size == 9 and unread._size == 0
        other.put(Token(2, [1], logprobs=LOGPROBS))
        await other.next()
        assert forgotten == [{1}] and held(kept) == [3]
        last = await one.next()
        assert isinstance(last, Refused) and (last.request, last.status) == (1, 503)
        other.close()
        one.close()
        assert kept._size == unread._size == 0

    run(main)


def test_a_long_prompt_is_given_out_in_parts_and_its_token_with_the_last() -> None:
    async def main() -> None:
        backlog = Backlog(1000, NOT_READ)
        stream = opened([1], backlog)
        prompt = [TokenLogprobs(each, -1.0) for each in range(2 * PIECE + 3)]
        stream.put(Token(1, [7], "length", prompt=prompt))
        stream.put(token(1))
        parts: list[Event | None] = [await stream.next() for _ in range(3)]
        ends = [[], None], [[], None], [[7], "length"]
        assert [[e.tokens, e.finish] for e in parts if isinstance(e, Token)] == [*ends]
        assert [p for e in parts if isinstance(e, Token) for p in e.prompt] == prompt
        assert backlog._size == 1 and await stream.next() == token(1)
        stream.close()
        assert backlog._size == 0

    run(main)


@pytest.mark.parametrize(("first", "wait"), [(None, 1000), (400.0, 400)])
def test_the_first_look_at_the_clock_may_come_sooner(first: float | None, wait: float) -> None:
    async def main() -> None:
        backlog = Backlog(1, NOT_READ)
        stream = EventStream([1], 1000.0, lambda _: None, Pace(), backlog, first=first)
        for seconds in (wait, 1000):
            await later(seconds - 100)
            assert not stream._events
            await later(150)
            assert [await stream.next()] == [None]
        stream.close()

    run(main)


LOGPROBS = [TokenLogprobs(1, -1.0, [(1, -1.0), (2, -2.0)])]


@pytest.mark.parametrize(
    ("event", "count"),
    [
        (None, 0),
        (Started(1, 0), 0),
        (Embedded(1, [0], b"", 1, True), 0),
        (token(1), 0),
        (Token(1, [1], logprobs=LOGPROBS * 2), 6),
        (Token(1, [1], prompt=LOGPROBS), 3),
    ],
)
def test_log_probabilities_count_as_they_take_memory(event: object, count: int) -> None:
    assert scores(event) == count  # type: ignore[arg-type]
