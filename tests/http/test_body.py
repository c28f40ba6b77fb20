"""Bodies: what they count against a budget, and codings undone in bounded steps."""

import asyncio
import codecs
import gzip
import zlib

import pytest

from bessemer.engine.request import Refusal
from bessemer.http.body import FREE, MEMBERS, STEP, Body, BodyBudget, coding_of, inflated

LIMIT = 2**24
RAW = zlib.compress(b"hello")[2:-4]  # deflate without its zlib header and checksum


def full(budget: BodyBudget, size: int) -> bool:
    """Say whether a body of `size` counted bytes finds no room; leave the budget as it was."""
    body = Body(budget=budget)
    try:
        body.add(bytes(FREE + size), LIMIT)
    except Refusal as refusal:
        assert (refusal.status, refusal.retry_after) == (503, 1)
        return True
    body.drop()
    return False


def test_large_bodies_share_a_budget_and_small_ones_always_pass() -> None:
    budget = BodyBudget(100)
    body = Body(budget=budget)
    for size in (FREE, 60, 40):
        body.add(bytes(size), LIMIT)
    assert full(budget, 1) and not full(budget, 0)
    body.drop()
    body.drop()
    assert not full(budget, 100) and full(budget, 101)


def test_taking_a_body_gives_its_budget_back() -> None:
    budget = BodyBudget(100)
    body = Body(budget=budget)
    body.add(bytes(FREE + 100), LIMIT)
    assert len(body.take()) == FREE + 100 and len(body) == 0
    assert not full(budget, 100)


@pytest.mark.parametrize("broken", [False, True])
def test_a_body_counts_until_it_is_decoded(broken: bool) -> None:
    budget = BodyBudget(100)
    body = Body(budget=budget)
    body.add(bytes(FREE + 100), LIMIT)

    def decode(data: bytes) -> int:
        assert full(budget, 1)
        return 1 // (0 if broken else len(data))

    if broken:
        with pytest.raises(ZeroDivisionError):
            asyncio.run(body.decode_apart(decode))
    else:
        assert asyncio.run(body.decode_apart(decode)) == 0
    assert not full(budget, 100)


def test_a_byte_order_mark_is_skipped_once() -> None:
    assert Body(codecs.BOM_UTF8 + b"{}").take() == b"{}"
    assert Body(2 * codecs.BOM_UTF8).take() == codecs.BOM_UTF8


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        (b"gzip", gzip.compress(b"hello")),
        (b"gzip", gzip.compress(b"hel") + gzip.compress(b"lo")),
        (b"deflate", zlib.compress(b"hello")),
        (b"deflate", RAW),
    ],
)
def test_what_is_cut_short_or_followed_by_more_is_refused(coding: bytes, data: bytes) -> None:
    body = Body(data)
    asyncio.run(body.inflate(coding, LIMIT))
    assert body.take() == b"hello"
    for bad in (data[:-1], data + b"x"):
        with pytest.raises(Refusal) as caught:
            asyncio.run(Body(bad).inflate(coding, LIMIT))
        assert (caught.value.status, caught.value.code) == (400, "invalid_encoding")


def test_members_are_counted() -> None:
    one = gzip.compress(b"a")
    assert b"".join(inflated(bytearray(one * MEMBERS), b"gzip")) == b"a" * MEMBERS
    with pytest.raises(zlib.error):
        list(inflated(bytearray(one * (MEMBERS + 1)), b"gzip"))


def test_a_bomb_is_opened_in_steps_and_no_further_than_the_limit() -> None:
    bomb = gzip.compress(bytes(2**23))
    assert max(map(len, inflated(bytearray(bomb), b"gzip"))) <= STEP
    budget = BodyBudget(2**20)
    for limit, status in ((2**20, 413), (2**24, 503)):
        with pytest.raises(Refusal) as caught:
            asyncio.run(Body(bomb, budget).inflate(b"gzip", limit))
        assert caught.value.status == status
        assert not full(budget, 2**20)


def test_others_have_turns_while_a_body_is_inflated() -> None:
    async def turns() -> int:
        count = 0
        work = asyncio.create_task(Body(gzip.compress(bytes(2**22))).inflate(b"gzip", LIMIT))
        while not work.done():
            await asyncio.sleep(0)
            count += 1
        await work
        return count

    assert asyncio.run(turns()) >= 2**22 // STEP


@pytest.mark.parametrize("value", [b"br", b"gzip, gzip", b"deflate,gzip", b"zstd"])
def test_other_codings_are_refused(value: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        coding_of(((b"content-encoding", value),))
    assert caught.value.status == 415


def test_codings_have_names_in_any_case() -> None:
    assert coding_of(((b"content-encoding", b"identity, GZip"),)) == b"gzip"
    assert coding_of(()) == b""
