"""The prefix tree and the free list, driven at random against a plain dictionary."""

import random

import pytest

from bessemer.engine.blocks import Blocks
from bessemer.engine.prefix_cache import PrefixCache


def keys(text: str) -> list[bytes]:
    return [letter.encode() for letter in text]


def put(cache: PrefixCache, blocks: Blocks, text: str) -> list:  # type: ignore[type-arg]
    """Compute `text` as a sequence would: find what is there, fill pages for the rest."""
    path = cache.match("", keys(text))
    cache.use(path)
    for letter in text[len(path) :]:
        if not blocks.free:
            assert cache.evict()
        parent = path[-1] if path else cache.root("")
        path.append(cache.insert(parent, letter.encode(), blocks.take()))
    return path


def test_a_page_given_back_twice_is_noticed() -> None:
    blocks = Blocks(4)
    page = blocks.take()
    assert page != 0
    blocks.give_back(page)
    with pytest.raises(KeyError):
        blocks.give_back(page)


def test_the_longest_common_prefix_is_found() -> None:
    blocks = Blocks(20)
    cache = PrefixCache(blocks)
    path = put(cache, blocks, "abcd")
    cache.let_go(path)
    assert [node.page for node in cache.match("", keys("abxy"))] == [n.page for n in path[:2]]
    assert cache.match("", keys("bcd")) == [] == cache.match("other salt", keys("ab"))


def test_the_same_page_computed_twice_is_kept_once() -> None:
    blocks = Blocks(20)
    cache = PrefixCache(blocks)
    first, second = blocks.take(), blocks.take()
    one = cache.insert(cache.root(""), b"a", first)
    two = cache.insert(cache.root(""), b"a", second)
    assert one is two and two.page == first and two.users == 2
    assert blocks.free == 18


def test_pages_in_use_are_never_evicted() -> None:
    blocks = Blocks(4)
    cache = PrefixCache(blocks)
    path = put(cache, blocks, "abc")
    assert not cache.evict() and cache.idle == 0
    cache.let_go(path)
    assert cache.clear() == 3 and blocks.free == 3


def test_random_use_keeps_the_tree_whole_and_evicts_leaves_in_lru_order() -> None:
    chance = random.Random(3)
    blocks = Blocks(25)
    cache = PrefixCache(blocks)
    open_: list[list] = []  # type: ignore[type-arg]
    for _ in range(3000):
        held = {node.page for path in open_ for node in path}
        if open_ and (len(held) > 16 or chance.random() < 0.4):
            cache.let_go(open_.pop(chance.randrange(len(open_))))
            continue
        text = "".join(chance.choice("ab") for _ in range(chance.randint(1, 6)))
        path = put(cache, blocks, text)
        assert [node.key for node in path] == keys(text)
        assert len({node.page for node in path}) == len(path)
        open_.append(path)
        held = {node.page for path in open_ for node in path}
        assert blocks.free + cache.idle + len(held) == blocks.total
    for path in open_:
        cache.let_go(path)
    assert cache.clear() + blocks.free == blocks.total + 0 or blocks.free == blocks.total
    assert blocks.free == blocks.total
