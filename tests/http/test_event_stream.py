"""Streams that nobody reads: how much waits for a reader, and whose answer is given up."""

import asyncio

import pytest

from bessemer.engine.request import Embedded, Refused, Started, Token, TokenLogprobs
from bessemer.http.event_stream import Backlog, EventStream, weight
from tests.http.wire import run


def token(number: int) -> Token:
    return Token(number, [1])


def test_what_waits_counts_until_it_is_read_or_let_go() -> None:
    async def main() -> None:
        forgotten: list[set[int]] = []
        backlog = Backlog(limit=10)
        slow, quick = (EventStream([n], 100.0, forgotten.append, backlog) for n in (1, 2))
        for _ in range(50):  # many, but never many at once
            quick.put(token(2))
            assert await quick.next() == token(2)
        for _ in range(9):
            slow.put(token(1))
        slow.put(None)
        quick.put(token(2))
        assert (slow.unread, quick.unread, forgotten) == (9, 1, [])
        slow.close()
        for _ in range(9):
            quick.put(token(2))
        assert quick.unread == 10 and forgotten == [{1}]
        quick.close()
        assert backlog.streams == set() and backlog._size == 0

    run(main)


def test_the_longest_backlog_is_given_up_with_a_refusal_and_its_request_cancelled() -> None:
    async def main() -> None:
        forgotten: list[set[int]] = []
        backlog = Backlog(limit=10)
        slow = EventStream([1, 3], 100.0, forgotten.append, backlog)
        quick = EventStream([2], 100.0, forgotten.append, backlog)
        slow.over(3)
        quick.put(token(2))
        for _ in range(10):
            assert forgotten == []
            slow.put(token(1))
        assert forgotten == [{1}] and (slow.unread, quick.unread) == (1, 1)
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
        stream = EventStream([1], 100.0, lambda _: None, Backlog(limit=3))
        large = Token(1, [1], prompt=LOGPROBS * 2)
        for _ in range(2):
            stream.put(large)
            assert await stream.next() == large
        stream.close()

    run(main)


LOGPROBS = [TokenLogprobs(1, -1.0, [(1, -1.0), (2, -2.0)])]


@pytest.mark.parametrize(
    ("event", "count"),
    [
        (None, 0),
        (Started(1, 0), 1),
        (Embedded(1, [0], b"", 1, True), 1),
        (token(1), 1),
        (Token(1, [1], logprobs=LOGPROBS * 2), 7),
        (Token(1, [1], prompt=LOGPROBS), 4),
    ],
)
def test_log_probabilities_count_as_they_take_memory(event: object, count: int) -> None:
    assert weight(event) == count  # type: ignore[arg-type]
