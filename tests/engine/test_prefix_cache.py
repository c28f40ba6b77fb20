"""The prefix tree over a pager's pages, driven at random against a plain dictionary."""

import random

from bessemer.engine.cache_sizes import CacheSizes, first_seen
from bessemer.engine.pager import Pager
from bessemer.engine.prefix_cache import STATES, Node

from .paper_model import clear

PAGE = 1  # a letter is a page


def pager(sizes: CacheSizes) -> Pager:
    return Pager(sizes, PAGE, chunk=1)


def plain(pages: int) -> Pager:
    """Make a cache of full attention alone."""
    return pager(CacheSizes((None,), (pages,)))


def keys(text: str) -> list[bytes]:
    return [letter.encode() for letter in text]


def save(pager: Pager, node: Node) -> bool:
    """Give the tree a state, where there is a slot for it."""
    state_slot = pager.allocate(STATES)
    if state_slot:
        pager.tree.save(node, state_slot)
    return state_slot > 0


def put(pager: Pager, text: str) -> list[Node]:
    """Compute `text` as a sequence would: find what is there, fill pages for the rest."""
    cache = pager.tree
    path = cache.match("", keys(text))
    cache.enter(path, [0])
    for letter in text[len(path) :]:
        page = pager.allocate(0)
        assert page
        parent = path[-1] if path else cache.root("")
        path.append(cache.insert(parent, letter.encode(), [page]))
    return path


def test_the_longest_common_prefix_is_found() -> None:
    pages = plain(20)
    path, cache = put(pages, "abcd"), pages.tree
    cache.leave(path, [0])
    assert cache.match("", keys("abxy")) == path[:2]
    assert cache.match("", keys("bcd")) == [] == cache.match("other salt", keys("ab"))


def test_the_same_page_computed_twice_is_kept_once() -> None:
    pages = plain(19)
    first, second, cache = pages.allocate(0), pages.allocate(0), pages.tree
    one = cache.insert(cache.root(""), b"a", [first])
    two = cache.insert(cache.root(""), b"a", [second])
    assert one is two and two.pages == [first, 0] and two.users == [2, 0]
    assert pages.pools[0].free == 18


def test_pages_in_use_are_never_evicted() -> None:
    pages = plain(3)
    path, cache = put(pages, "abc"), pages.tree
    assert not cache.evict(0) and pages.available(0) == 0 == pages.allocate(0)
    cache.leave(path, [0])
    assert clear(pages) == 3 and pages.pools[0].free == 3


def test_random_use_keeps_the_tree_whole_and_evicts_leaves_in_lru_order() -> None:
    chance = random.Random(3)
    pages = plain(24)
    cache = pages.tree
    open_: list[list[Node]] = []
    for _ in range(3000):
        held = {node.pages[0] for path in open_ for node in path}
        if open_ and (len(held) > 16 or chance.random() < 0.4):
            cache.leave(open_.pop(chance.randrange(len(open_))), [0])
            continue
        text = "".join(chance.choice("ab") for _ in range(chance.randint(1, 6)))
        path = put(pages, text)
        assert [node.key for node in path] == keys(text)
        assert len({node.pages[0] for node in path}) == len(path)
        open_.append(path)
        held = {node.pages[0] for path in open_ for node in path}
        assert pages.available(0) + len(held) == 24
    for path in open_:
        cache.leave(path, [0])
    assert clear(pages) and pages.pools[0].free == 24


WINDOW = 3  # letters


def windowed(count: int = 20, states: int = 0) -> Pager:
    return pager(CacheSizes((None, WINDOW), (count, count), states))


def fill(pages: Pager, text: str, states: str = "") -> tuple[list[Node], list[int]]:
    """Do as `put`, over both groups; pages that the window leaves behind go to the tree alone."""
    path, cache = list[Node](), pages.tree
    for letter in text:
        parent = path[-1] if path else cache.root("")
        taken = [pages.allocate(group) for group in range(2)]
        assert all(taken)
        path.append(cache.insert(parent, letter.encode(), taken))
        if letter in states:
            assert save(pages, path[-1])
    first = first_seen(WINDOW, len(path), PAGE)
    for node in path[:first]:
        cache.let_go(node, 1)
    return path, [0, first]


def test_a_match_needs_the_window_before_it_and_no_more() -> None:
    pages = windowed()
    cache = pages.tree
    cache.leave(*fill(pages, "abcdefgh"))
    assert [cache.evict(1) for _ in range(4)] == [True] * 4  # a to d, which were let go of first
    assert len(cache.match("", keys("abcdefgh"))) == 8
    assert len(cache.match("", keys("abcdef"))) == 6  # sees e and f
    assert cache.match("", keys("abcde")) == []  # would see d and e
    assert len(cache.match("", keys("abcdefx"))) == 6


def test_a_page_of_the_window_comes_back_with_the_next_who_computes_it() -> None:
    pages = windowed()
    cache = pages.tree
    cache.leave(*fill(pages, "abcd"))
    while cache.evict(1):
        pass
    assert cache.match("", keys("abcd")) == [] and pages.available(0) == 20
    cache.leave(*fill(pages, "abcd"))
    assert len(cache.match("", keys("abcd"))) == 4
    assert clear(pages) == 8 and [pool.free for pool in pages.pools] == [20, 20, 0]


def test_a_leaf_takes_its_window_and_its_state_along() -> None:
    pages = windowed(states=5)
    cache = pages.tree
    cache.leave(*fill(pages, "ab", states="b"))
    assert cache.evict(0)
    assert [pool.free for pool in pages.pools] == [19, 19, 5]


def test_a_match_needs_a_state_at_its_end() -> None:
    pages = windowed(states=5)
    cache = pages.tree
    cache.leave(*fill(pages, "abcdefg", states="bf"))
    assert [len(cache.match("", keys(text))) for text in ("abcdefg", "abcde", "a")] == [6, 2, 0]
    assert cache.evict(STATES)  # b, which was saved first
    assert cache.match("", keys("abcde")) == []


def test_states_are_evicted_in_lru_order_and_entering_is_use() -> None:
    pages = pager(CacheSizes((), (), 3))
    cache = pages.tree
    for letter in "abc":
        node = cache.insert(cache.root(""), letter.encode(), [])
        assert save(pages, node)
        cache.leave([node], [])
    (used,) = path = cache.match("", keys("a"))
    cache.enter(path, [])
    assert used.reused and pages.allocate(STATES) and pages.allocate(STATES)
    assert [len(cache.match("", keys(letter))) for letter in "abc"] == [1, 0, 0]
    assert pages.allocate(STATES) and not used.state and not pages.allocate(STATES)


def test_a_state_that_is_saved_again_is_not_found_yet() -> None:
    pages = pager(CacheSizes((), (), 2))
    cache = pages.tree
    first, second = (cache.insert(cache.root(""), key, []) for key in (b"a", b"b"))
    assert save(pages, first) and save(pages, second)
    cache.touch(first)
    assert cache.evict(STATES)  # it was in use just now: the other goes
    assert first.state and not second.state
    cache.enter([first], [])
    assert first.reused
    cache.forget(first)
    assert save(pages, first) and not first.reused


def test_nodes_with_nothing_disappear_up_to_the_root() -> None:
    pages = pager(CacheSizes((), (), 3))
    cache = pages.tree
    path: list[Node] = []
    for letter in "abc":
        path.append(cache.insert(path[-1] if path else cache.root(""), letter.encode(), []))
    assert save(pages, path[-1])
    cache.leave(path, [])
    assert cache.match("", keys("abc")) == path
    root = cache.root("")
    assert cache.evict(STATES) and not root.children and cache.root("") is not root


def test_what_nan_came_of_is_found_no_more_down_to_the_last_page_that_is_sound() -> None:
    pages = plain(20)
    path, cache = put(pages, "abcd"), pages.tree
    cache.vouch(path[1])
    cache.cut_off(path[3])
    assert cache.match("", keys("abcd")) == path[:2]
    again = put(pages, "abcd")
    cache.cut_off(path[3])  # by another sequence: what stands in its place now is not doubtful
    assert cache.match("", keys("abcd")) == again
    cache.vouch(again[3])
    cache.cut_off(again[3])
    assert cache.match("", keys("abcd")) == again
    other = put(pages, "xy")
    cache.cut_off(other[1])
    assert cache.match("", keys("xy")) == []


def test_full_attention_with_states_goes_on_from_a_state_alone() -> None:
    pages = pager(CacheSizes((None,), (20,), 3))
    path = put(pages, "abcd")
    assert pages.tree.match("", keys("abcd")) == []
    assert save(pages, path[1])
    assert pages.tree.match("", keys("abcd")) == path[:2] == pages.tree.match("", keys("abx"))
