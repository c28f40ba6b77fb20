"""The free list: what it hands out, and what it notices."""

import pytest

from bessemer.engine.page_allocator import PageAllocator


def test_every_page_but_the_null_page_is_handed_out_once() -> None:
    pages = PageAllocator(3)
    taken = [pages.allocate() for _ in range(3)]
    assert sorted(taken) == [1, 2, 3] and pages.free == 0
    pages.release(taken[1])
    assert pages.free == 1 and pages.allocate() == taken[1]


def test_a_page_released_twice_is_noticed() -> None:
    pages = PageAllocator(3)
    page = pages.allocate()
    assert page != 0
    pages.release(page)
    with pytest.raises(KeyError):
        pages.release(page)
