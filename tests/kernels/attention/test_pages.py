"""A layer's pages: how large they are, how tails come into them, what a step prepares once."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.attention.pages import (
    FENCE,
    TAIL_PAGES,
    Append,
    Format,
    Layout,
    Pages,
    Tail,
    flush,
    page_bytes,
    pages_of,
    part_sizes,
    zeros,
)

from ..steps import layout_of


@pytest.mark.parametrize("format", Format)
@pytest.mark.parametrize(("dim", "values"), [(64, 64), (72, 40), (96, 0)])
def test_the_size_of_a_page(format: Format, dim: int, values: int) -> None:
    pages = zeros(5, 3, dim, values, format)
    size = sum(array.nbytes for array in pages.arrays)
    assert 5 * page_bytes(3, dim, values, format) == size


def random_pages(count: int, format: Format) -> Pages:
    pages = zeros(count, 2, 32, 32, format)
    parts = [
        None
        if part is None
        else mx.array(np.random.RandomState(i).randint(0, 100, part.shape)).astype(part.dtype)
        for i, part in enumerate(pages.parts)
    ]
    out = pages_of(parts)
    mx.eval(out.arrays)
    return out


@pytest.mark.parametrize("format", [Format.BFLOAT16, Format.INT8, Format.INT4])
def test_tails_are_brought_into_the_pool(format: Format) -> None:
    pool, tail = random_pages(7, format), random_pages(3 * TAIL_PAGES, format)
    pages = replace(pool, tail=Tail(tail, mx.array([0, 32, 64])))
    moved = flush(pages, [(0, 1, 5), (2, 0, 3)], keep=True)
    assert moved.tail is pages.tail
    assert moved.arrays[len(pool.arrays) :] == tail.arrays
    for old, new, late in zip(pool.arrays, moved.arrays, tail.arrays, strict=False):
        for page in range(7):
            want = {5: late[1], 3: late[2 * TAIL_PAGES]}.get(page, old[page])
            assert bool(mx.array_equal(new[page], want))
    assert flush(pages, [(0, 0, 1)], keep=False).tail is None
    untouched = flush(pages, [], keep=False)
    assert untouched.tail is None and untouched.keys is pages.keys


def test_tails_are_brought_into_the_pool_in_place() -> None:
    pages = zeros(3000, 8, 64, 64, Format.FLOAT32)
    tail = zeros(2 * TAIL_PAGES, 8, 64, 64, Format.FLOAT32)
    mx.eval(pages.arrays, tail.arrays)
    pages = replace(pages, tail=Tail(tail, mx.array([0, 0])))
    address = np.asarray(pages.keys).ctypes.data
    for page in (1, 2, 3):
        pages = flush(pages, [(0, 0, page), (1, 1, page + 10)], keep=True)
        mx.eval(pages.arrays)
        assert np.asarray(pages.keys).ctypes.data == address


@pytest.mark.parametrize("append", Append)
def test_a_pool_says_how_it_is_appended_from_one_handle_to_the_next(append: Append) -> None:
    pool = zeros(3, 2, 32, 16, Format.INT4, append)
    assert pool.append is append
    assert (pool.fence is not None) == (append is Append.IN_PLACE)
    assert pool.fence is None or pool.fence.shape == (FENCE,)
    tail = Tail(zeros(TAIL_PAGES, 2, 32, 16, Format.INT4), mx.array([0]))
    later = pool.after(pool.parts, tail=tail, fence=pool.fence)
    assert later.append is append and later.tail is tail and later.fence is pool.fence
    assert flush(later, [(0, 0, 1)], keep=False).append is append
    assert pool.after().parts == pool.parts and pool.after().fence is None


@pytest.mark.parametrize("format", Format)
@pytest.mark.parametrize("value_dim", [40, 0])
def test_the_sizes_of_parts_are_those_of_a_pool(format: Format, value_dim: int) -> None:
    sizes = part_sizes(2, 72, value_dim, format)
    for size, part in zip(sizes, zeros(3, 2, 72, value_dim, format).parts, strict=True):
        assert (size is None) == (part is None)
        assert size is None or part is None or (3, *size[0]) == part.shape
        assert size is None or part is None or size[1] == part.dtype


def test_what_layers_share_is_made_once_a_step() -> None:
    calls: list[int] = []

    def prepare(layout: Layout, number: int, array: mx.array) -> mx.array:
        calls.append(number)
        return layout.positions + array

    one, layout = mx.array([1]), layout_of([([1], 9, 1)])
    first = layout.once(prepare, 1, one)
    assert layout.once(prepare, 1, one) is first and first.tolist() == [9]
    assert layout.once(prepare, 2, one) is not first and calls == [1, 2]
    assert layout.once(prepare, 1, mx.array([1])) is not first  # arrays are known by identity
    tailed = replace(layout, tails=mx.array([0]))
    assert tailed.once(prepare, 1, one) is not first, "another step has what is its own"
