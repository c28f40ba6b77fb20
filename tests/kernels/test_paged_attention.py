"""Paged attention against its definition, row independence, stale slots, and appends in place."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.paged_attention import append, paged_attention, paged_attention_reference
from bessemer.kernels.pages import PAGE, Layout, Pages, Prefill

from .arrays import close, normal, same

POOL, KV_HEADS, DIM = 40, 2, 16
SCALE = DIM**-0.5


def stale_pages() -> Pages:
    nan = mx.full((POOL, KV_HEADS, PAGE, DIM), float("nan"))
    return Pages(nan, nan + 0)


def tables(contexts: Sequence[int]) -> list[list[int]]:
    """Pages dealt out in a scattered order."""
    free = [int(p) + 1 for p in np.random.RandomState(3).permutation(POOL - 1)]
    return [[free.pop() for _ in range(-(-context // PAGE))] for context in contexts]


def fill(pages: Pages, table: list[int], context: int, seed: int) -> Pages:
    """Writes a whole context of keys and values, as earlier steps would have."""
    slots = mx.array([table[i // PAGE] * PAGE + i % PAGE for i in range(context)], mx.int32)
    empty = mx.zeros((0,), mx.int32)
    layout = Layout(mx.arange(context, dtype=mx.int32), slots, 0, empty, empty, ())
    k = normal(context, KV_HEADS, DIM, seed=seed)
    return append(k, normal(context, KV_HEADS, DIM, seed=seed + 1), pages, layout)


def layout_of(
    decodes: Sequence[tuple[list[int], int]], prefills: Sequence[tuple[list[int], int, int]]
) -> Layout:
    """decodes: (table, context); prefills: (table, context, rows); for reading, without slots."""
    most = max((len(table) for table, _ in decodes), default=0)
    padded = [table + [0] * (most - len(table)) for table, _ in decodes]
    runs, start = [], len(decodes)
    for table, context, rows in prefills:
        runs.append(Prefill(start, start + rows, context, mx.array(table, mx.int32)))
        start += rows
    return Layout(
        mx.zeros((start,), mx.int32),
        mx.zeros((start,), mx.int32),
        len(decodes),
        mx.array(padded, mx.int32),
        mx.array([context for _, context in decodes], mx.int32),
        tuple(runs),
    )


CONTEXTS = (1, 7, 32, 33, 64, 90)


@pytest.fixture(scope="module")
def filled() -> tuple[Pages, list[list[int]]]:
    pages, dealt = stale_pages(), tables(CONTEXTS)
    for i, (table, context) in enumerate(zip(dealt, CONTEXTS, strict=True)):
        pages = fill(pages, table, context, seed=10 * i + 1)
    mx.eval(pages.keys, pages.values)
    return pages, dealt


@pytest.mark.parametrize("heads", [2, 6])
@pytest.mark.parametrize("window", [None, 1, 20, 32, 33, 500])
def test_ragged_step(heads: int, window: int | None, filled: tuple[Pages, list[list[int]]]) -> None:
    pages, dealt = filled
    decodes = list(zip(dealt, CONTEXTS, strict=True))
    prefills = [(dealt[1], 7, 7), (dealt[5], 90, 57), (dealt[3], 33, 1)]
    layout = layout_of(decodes, prefills)
    q = normal(len(CONTEXTS) + 65, heads, DIM) * 2
    found = paged_attention(q, pages, layout, SCALE, window)
    assert close(found, paged_attention_reference(q, pages, layout, SCALE, window))


@pytest.mark.parametrize("window", [None, 20])
def test_a_row_is_the_same_bits_alone_and_in_company(
    window: int | None, filled: tuple[Pages, list[list[int]]]
) -> None:
    pages, dealt = filled
    context, table = CONTEXTS[5], dealt[5]
    q = normal(context, 4, DIM) * 2
    whole = paged_attention(q, pages, layout_of([], [(table, context, context)]), SCALE, window)
    for stop in range(1, context + 1):
        row = q[stop - 1 : stop]
        used = table[: -(-stop // PAGE)]
        alone = paged_attention(row, pages, layout_of([(used, stop)], []), SCALE, window)
        assert same(alone, whole[stop - 1 : stop])
        crowd = layout_of([(dealt[2], 32), (used, stop), (table, context)], [(dealt[1], 7, 3)])
        several = mx.concatenate([q[:1], row, q[3:7]])
        company = paged_attention(several, pages, crowd, SCALE, window)
        assert same(company[1:2], alone)
    for chunk in (1, 13, 32, 40):
        parts = [
            paged_attention(
                q[start : start + chunk],
                pages,
                layout_of(
                    [],
                    [
                        (
                            table[: -(-min(start + chunk, context) // PAGE)],
                            min(start + chunk, context),
                            min(chunk, context - start),
                        )
                    ],
                ),
                SCALE,
                window,
            )
            for start in range(0, context, chunk)
        ]
        assert same(mx.concatenate(parts), whole)


def test_tiles_of_a_long_prompt_change_nothing(
    monkeypatch: pytest.MonkeyPatch, filled: tuple[Pages, list[list[int]]]
) -> None:
    pages, dealt = filled
    q = normal(90, 4, DIM)
    layout = layout_of([], [(dealt[5], 90, 90)])
    whole = paged_attention(q, pages, layout, SCALE, 40)
    monkeypatch.setattr("bessemer.kernels.paged_attention.SCORES", 4 * 96 * 11)
    assert same(paged_attention(q, pages, layout, SCALE, 40), whole)


def test_a_row_with_nothing_to_attend_to_stays_finite() -> None:
    layout = layout_of([([0], 0)], [])
    found = paged_attention(normal(1, 4, DIM), stale_pages(), layout, SCALE)
    assert float(mx.max(mx.abs(found))) == 0


def test_a_narrower_pool_is_read_in_the_dtype_of_the_queries() -> None:
    half = mx.zeros((4, KV_HEADS, PAGE, DIM), mx.float16)
    pages = fill(Pages(half, half), [2, 1], 40, seed=5)
    assert pages.keys.dtype == mx.float16
    q = normal(40, 4, DIM)
    layout = layout_of([], [([2, 1], 40, 40)])
    found = paged_attention(q, pages, layout, SCALE)
    assert found.dtype == mx.float32
    assert close(found, paged_attention_reference(q, pages, layout, SCALE))


def test_appends_are_in_place() -> None:
    """200 MB of pool, 64 rows: neither the address nor the peak may show a copy."""
    pool = mx.zeros((3000, 8, PAGE, 64))
    cache = Pages(pool, pool + 0)
    del pool
    mx.eval(cache.keys, cache.values)
    size, address = cache.keys.nbytes, np.asarray(cache.keys).ctypes.data
    slots = mx.array(np.random.RandomState(0).permutation(3000 * PAGE)[:64], mx.int32)
    empty = mx.zeros((0,), mx.int32)
    layout = Layout(empty, slots, 0, empty, empty, ())
    for seed in range(3):
        x = normal(64, 8, 64, seed=seed)
        mx.eval(x, slots)
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        cache = append(x, x * 2, cache, layout)
        mx.eval(cache.keys, cache.values)
        assert mx.get_peak_memory() - before < size / 50
        assert np.asarray(cache.keys).ctypes.data == address
    page, offset = divmod(int(slots[5]), PAGE)
    assert same(cache.keys[page, :, offset], normal(64, 8, 64, seed=2)[5])
    assert same(cache.values[page, :, offset], normal(64, 8, 64, seed=2)[5] * 2)
