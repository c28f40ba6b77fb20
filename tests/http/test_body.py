"""The bodies of requests: what they may take together, and the codings that they come in."""

import asyncio
import gzip
import threading
import zlib

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.body import MEMBERS, Body, BodyBudget, coding_of

LIMIT = 2**20
FREE = 2**14  # bytes of each body that nobody counts
TEXT = b'{"prompt": "' + b"steel and iron " * 3000 + b'"}'


def inflated(data: bytes, coding: bytes, limit: int = LIMIT) -> bytes:
    body = Body(data)
    asyncio.run(body.inflate(coding, limit))
    return body.take()


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        (b"gzip", gzip.compress(TEXT, mtime=0)),
        (b"x-gzip", gzip.compress(TEXT, mtime=0)),
        (b"gzip", gzip.compress(TEXT[:9], mtime=0) + gzip.compress(TEXT[9:], mtime=0)),
        (b"deflate", zlib.compress(TEXT)),
        (b"deflate", bare(TEXT)),
    ],
)
def test_codings_are_undone(coding: bytes, data: bytes) -> None:
    assert inflated(data, coding) == TEXT


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        (b"gzip", TEXT),
        (b"gzip", gzip.compress(TEXT)[:-9]),
        (b"gzip", gzip.compress(TEXT) + b"more"),
        (b"gzip", gzip.compress(b"a") * (MEMBERS + 1)),
        (b"deflate", zlib.compress(TEXT)[:-5]),
        (b"deflate", zlib.compress(TEXT) + zlib.compress(TEXT)),
        (b"deflate", TEXT),
    ],
)
def test_what_is_not_so_coded_is_refused(coding: bytes, data: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        inflated(data, coding)
    assert (caught.value.status, caught.value.code) == (400, "invalid_encoding")


def test_a_bomb_is_refused_before_it_is_large() -> None:
    budget = BodyBudget(2 * LIMIT)
    body = Body(gzip.compress(bytes(2**28)), budget)
    with pytest.raises(Refusal) as caught:
        asyncio.run(body.inflate(b"gzip", LIMIT))
    assert caught.value.status == 413
    body.drop()
    budget.take(2 * LIMIT)  # all of it is back


@pytest.mark.parametrize("count", [1, 20])
def test_others_have_their_turns_while_bodies_are_undone(count: int) -> None:
    async def main() -> int:
        budget, turns = BodyBudget(count * 2 * LIMIT), 0
        bodies = [Body(gzip.compress(bytes(LIMIT)), budget) for _ in range(count)]
        undoing = asyncio.gather(*(body.inflate(b"gzip", LIMIT) for body in bodies))
        while not undoing.done():
            await asyncio.sleep(0)
            turns += 1
        assert [len(body) for body in bodies] == [LIMIT] * count
        return turns

    assert asyncio.run(main()) > 3 * count


def test_bodies_share_a_budget_but_for_what_is_free() -> None:
    budget = BodyBudget(100)
    first, second = Body(budget=budget), Body(budget=budget)
    first.add(bytes(FREE + 60), LIMIT)
    second.add(bytes(FREE + 40), LIMIT)
    with pytest.raises(Refusal) as caught:
        second.add(b"x", LIMIT)
    assert (caught.value.status, caught.value.retry_after) == (503, 1)
    Body(budget=budget).add(bytes(FREE), LIMIT)  # a small one passes
    first.drop()
    second.add(b"x", LIMIT)
    assert len(second.take()) == FREE + 41
    budget.take(100)


def test_the_limit_of_one_body() -> None:
    body = Body()
    body.add(bytes(10), 10)
    with pytest.raises(Refusal) as caught:
        body.add(b"x", 10)
    assert caught.value.status == 413


def test_large_bodies_are_decoded_in_turn_and_count_until_they_are_dropped() -> None:
    async def main() -> None:
        budget, size = BodyBudget(3 * LIMIT), LIMIT + FREE
        bodies = [Body(budget=budget) for _ in range(3)]
        for body in bodies:
            body.add(bytes(size), size)
        at_once = [0, 0]

        def decode(data: bytes) -> int:
            at_once[0] += 1
            at_once[1] = max(at_once)
            at_once[0] -= 1
            return len(data)

        assert await asyncio.gather(*(b.decode_apart(decode) for b in bodies)) == [size] * 3
        assert at_once[1] == 1
        for body in bodies:
            with pytest.raises(Refusal):
                budget.take(3 * LIMIT)
            body.drop()
        budget.take(3 * LIMIT)

    asyncio.run(main())


def test_a_body_that_is_dropped_while_it_is_decoded_counts_until_then() -> None:
    async def main() -> None:
        budget, decoding, go_on = BodyBudget(LIMIT), threading.Event(), threading.Event()
        body = Body(budget=budget)
        body.add(bytes(LIMIT + FREE), LIMIT + FREE)

        def decode(_: bytes) -> None:
            decoding.set()
            assert go_on.wait(20)

        handler = asyncio.create_task(body.decode_apart(decode))
        await asyncio.to_thread(decoding.wait)
        handler.cancel()
        body.drop()
        with pytest.raises(Refusal):
            budget.take(1)
        go_on.set()
        async with budget.turn:
            budget.take(LIMIT)

    asyncio.run(main())


def test_a_byte_order_mark_is_no_part_of_it() -> None:
    marked = b"\xef\xbb\xbf{}"
    assert Body(marked).take() == asyncio.run(Body(marked).decode_apart(bytes)) == b"{}"


def test_the_codings_that_a_header_names() -> None:
    def coding(*values: bytes) -> bytes:
        return coding_of(tuple((b"content-encoding", value) for value in values))

    assert coding() == coding(b"identity") == coding(b"", b" ") == b""
    assert coding(b" GZip") == coding(b"identity, gzip") == b"gzip"
    for unknown in (b"br", b"zstd", b"gzip, gzip", b"gzip;q=1"):
        with pytest.raises(Refusal) as caught:
            coding(unknown)
        assert caught.value.status == 415


def test_as_many_members_as_the_limit_are_a_body() -> None:
    assert inflated(gzip.compress(b"a") * MEMBERS, b"gzip") == b"a" * MEMBERS
