"""The prefix tree and the free lists, driven at random against a plain dictionary."""

import random

import pytest

from bessemer.engine.blocks import Blocks
from bessemer.engine.prefix_cache import Node, PrefixCache
from bessemer.engine.room import Room, first_seen

PAGE = 1  # a letter is a page


def tree(pages: int) -> PrefixCache:
    """Of full attention alone."""
    return PrefixCache(Room((None,), (pages,)), PAGE)


def keys(text: str) -> list[bytes]:
    return [letter.encode() for letter in text]


def put(cache: PrefixCache, text: str) -> list[Node]:
    """Compute `text` as a sequence would: find what is there, fill pages for the rest."""
    path = cache.match("", keys(text))
    cache.enter(path, [0])
    for letter in text[len(path) :]:
        page = cache.take(0)
        assert page
        parent = path[-1] if path else cache.root("")
        path.append(cache.insert(parent, letter.encode(), [page]))
    return path


def test_a_page_given_back_twice_is_noticed() -> None:
    blocks = Blocks(4)
    page = blocks.take()
    assert page != 0
    blocks.give_back(page)
    with pytest.raises(KeyError):
        blocks.give_back(page)


def test_the_longest_common_prefix_is_found() -> None:
    cache = tree(20)
    path = put(cache, "abcd")
    cache.leave(path, [0])
    assert cache.match("", keys("abxy")) == path[:2]
    assert cache.match("", keys("bcd")) == [] == cache.match("other salt", keys("ab"))


def test_the_same_page_computed_twice_is_kept_once() -> None:
    cache = tree(19)
    first, second = cache.take(0), cache.take(0)
    one = cache.insert(cache.root(""), b"a", [first])
    two = cache.insert(cache.root(""), b"a", [second])
    assert one is two and two.pages == [first] and two.users == [2]
    assert cache.blocks[0].free == 18


def test_pages_in_use_are_never_evicted() -> None:
    cache = tree(3)
    path = put(cache, "abc")
    assert not cache.evict(0) and cache.spare(0) == 0 == cache.take(0)
    cache.leave(path, [0])
    assert cache.clear() == 3 and cache.blocks[0].free == 3


def test_random_use_keeps_the_tree_whole_and_evicts_leaves_in_lru_order() -> None:
    chance = random.Random(3)
    cache = tree(24)
    open_: list[list[Node]] = []
    for _ in range(3000):
        held = {node.pages[0] for path in open_ for node in path}
        if open_ and (len(held) > 16 or chance.random() < 0.4):
            cache.leave(open_.pop(chance.randrange(len(open_))), [0])
            continue
        text = "".join(chance.choice("ab") for _ in range(chance.randint(1, 6)))
        path = put(cache, text)
        assert [node.key for node in path] == keys(text)
        assert len({node.pages[0] for node in path}) == len(path)
        open_.append(path)
        held = {node.pages[0] for path in open_ for node in path}
        assert cache.spare(0) + len(held) == 24
    for path in open_:
        cache.leave(path, [0])
    assert cache.clear() and cache.blocks[0].free == 24


WINDOW = 3  # letters


def windowed(pages: int = 20, states: int = 0) -> PrefixCache:
    return PrefixCache(Room((None, WINDOW), (pages, pages), states), PAGE)


def fill(cache: PrefixCache, text: str, states: str = "") -> tuple[list[Node], list[int]]:
    """As `put`, over both groups; pages that the window leaves behind go to the tree alone."""
    path: list[Node] = []
    for letter in text:
        parent = path[-1] if path else cache.root("")
        taken = [cache.take(group) for group in range(2)]
        assert all(taken)
        path.append(cache.insert(parent, letter.encode(), taken))
        if letter in states:
            assert cache.save(path[-1])
    first = first_seen(WINDOW, len(path), PAGE)
    for node in path[:first]:
        cache.let_go(node, 1)
    return path, [0, first]


def test_a_match_needs_the_window_before_it_and_no_more() -> None:
    cache = windowed()
    cache.leave(*fill(cache, "abcdefgh"))
    assert [cache.evict(1) for _ in range(4)] == [True] * 4  # a to d, which were let go of first
    assert len(cache.match("", keys("abcdefgh"))) == 8
    assert len(cache.match("", keys("abcdef"))) == 6  # sees e and f
    assert cache.match("", keys("abcde")) == []  # would see d and e
    assert len(cache.match("", keys("abcdefx"))) == 6


def test_a_page_of_the_window_comes_back_with_the_next_who_computes_it() -> None:
    cache = windowed()
    cache.leave(*fill(cache, "abcd"))
    while cache.evict(1):
        pass
    assert cache.match("", keys("abcd")) == [] and cache.spare(0) == 20
    cache.leave(*fill(cache, "abcd"))
    assert len(cache.match("", keys("abcd"))) == 4
    assert cache.clear() == 8 and [blocks.free for blocks in cache.blocks] == [20, 20]


def test_a_leaf_takes_its_window_and_its_state_along() -> None:
    cache = windowed(states=5)
    cache.leave(*fill(cache, "ab", states="b"))
    assert cache.evict(0)
    assert [blocks.free for blocks in cache.blocks] == [19, 19] and cache.slots.free == 5


def test_a_match_needs_a_state_at_its_end() -> None:
    cache = windowed(states=5)
    cache.leave(*fill(cache, "abcdefg", states="bf"))
    assert [len(cache.match("", keys(text))) for text in ("abcdefg", "abcde", "a")] == [6, 2, 0]
    assert cache.evict_state()  # b, which was saved first
    assert cache.match("", keys("abcde")) == []


def test_states_are_evicted_in_lru_order_and_entering_is_use() -> None:
    cache = PrefixCache(Room((), (), 3), PAGE)
    for letter in "abc":
        node = cache.insert(cache.root(""), letter.encode(), [])
        assert cache.save(node)
        cache.leave([node], [])
    (used,) = path = cache.match("", keys("a"))
    cache.enter(path, [])
    assert used.found and cache.take_slot() and cache.take_slot()
    assert [len(cache.match("", keys(letter))) for letter in "abc"] == [1, 0, 0]
    assert cache.take_slot() and not used.state and not cache.take_slot()


def test_a_state_that_is_saved_again_is_not_found_yet() -> None:
    cache = PrefixCache(Room((), (), 2), PAGE)
    first, second = (cache.insert(cache.root(""), key, []) for key in (b"a", b"b"))
    assert cache.save(first) and cache.save(second)
    assert not cache.save(first) and cache.evict_state()  # it was in use just now: the other goes
    assert first.state and not second.state
    cache.enter([first], [])
    assert first.found
    cache.forget(first)
    assert cache.save(first) and not first.found


def test_nodes_with_nothing_disappear_up_to_the_root() -> None:
    cache = PrefixCache(Room((), (), 3), PAGE)
    path: list[Node] = []
    for letter in "abc":
        path.append(cache.insert(path[-1] if path else cache.root(""), letter.encode(), []))
    assert cache.save(path[-1])
    cache.leave(path, [])
    assert cache.match("", keys("abc")) == path
    root = cache.root("")
    assert cache.evict_state() and not root.children and cache.root("") is not root
