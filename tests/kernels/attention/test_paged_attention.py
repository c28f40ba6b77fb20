"""Paged attention in MLX against its definition: ragged steps, tiles, appends in place."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.attention.paged_attention import (
    append,
    paged_attention,
    paged_attention_reference,
)
from bessemer.kernels.attention.pages import PAGE, Format, Heads, Layout, Pages, zeros

from ..arrays import close, normal, same
from ..steps import layout_of, stale, tables

KV_HEADS, DIM = 2, 16


def heads_of(heads: int, window: int | None = None) -> Heads:
    return Heads(heads, KV_HEADS, DIM, DIM**-0.5, DIM, window)


def fill(pages: Pages, table: list[int], context: int, seed: int) -> Pages:
    """Writes a whole context of keys and values, as earlier steps would have."""
    k = normal(context, KV_HEADS, DIM, seed=seed)
    layout = layout_of([(table, context, context)])
    return append(k, normal(context, KV_HEADS, DIM, seed=seed + 1), pages, layout)


CONTEXTS = (1, 7, 32, 33, 64, 90)


@pytest.fixture(scope="module")
def filled() -> tuple[Pages, list[list[int]]]:
    pages, dealt = stale(40, KV_HEADS, DIM, DIM, Format.FLOAT32), tables(CONTEXTS)
    for i, (table, context) in enumerate(zip(dealt, CONTEXTS, strict=True)):
        pages = fill(pages, table, context, seed=10 * i + 1)
    mx.eval(pages.keys, pages.values)
    return pages, dealt


@pytest.mark.parametrize("heads", [2, 6])
@pytest.mark.parametrize("window", [None, 1, 20, 32, 33, 500])
def test_ragged_step(heads: int, window: int | None, filled: tuple[Pages, list[list[int]]]) -> None:
    pages, dealt = filled
    decodes = [(table, context, 1) for table, context in zip(dealt, CONTEXTS, strict=True)]
    layout = layout_of([*decodes, (dealt[1], 7, 7), (dealt[5], 90, 57), (dealt[3], 33, 2)])
    q = normal(len(CONTEXTS) + 66, heads, DIM) * 2
    out = paged_attention(q, pages, layout, heads_of(heads, window))
    assert close(out, paged_attention_reference(q, pages, layout, heads_of(heads, window)))


@pytest.mark.parametrize("window", [None, 20])
def test_a_row_is_the_same_bits_alone_and_in_company(
    window: int | None, filled: tuple[Pages, list[list[int]]]
) -> None:
    pages, dealt = filled
    context, table = CONTEXTS[5], dealt[5]
    q = normal(context, 4, DIM) * 2

    def run(q: mx.array, *runs: tuple[list[int], int, int]) -> mx.array:
        return paged_attention(q, pages, layout_of(runs), heads_of(4, window))

    oracle = run(q, (table, context, context))
    for stop in range(1, context + 1):
        row, used = q[stop - 1 : stop], table[: -(-stop // PAGE)]
        alone = run(row, (used, stop, 1))
        assert same(alone, oracle[stop - 1 : stop])
        several = mx.concatenate([q[:1], row, q[3:7]])
        crowd = ((dealt[2], 32, 1), (used, stop, 1), (table, context, 1), (dealt[1], 7, 3))
        assert same(run(several, *crowd)[1:2], alone)
    for chunk in (1, 13, 32, 40):
        stops = [min(start + chunk, context) for start in range(0, context, chunk)]
        parts = [
            run(q[start:stop], (table[: -(-stop // PAGE)], stop, stop - start))
            for start, stop in zip([0, *stops], stops, strict=False)
        ]
        assert same(mx.concatenate(parts), oracle)


def test_tiles_of_a_long_prompt_change_nothing(
    monkeypatch: pytest.MonkeyPatch, filled: tuple[Pages, list[list[int]]]
) -> None:
    pages, dealt = filled
    q = normal(90, 4, DIM)
    layout = layout_of([(dealt[5], 90, 90)])
    oracle = paged_attention(q, pages, layout, heads_of(4, 40))
    monkeypatch.setattr("bessemer.kernels.attention.paged_attention.SCORES", 4 * 96 * 11)
    assert same(paged_attention(q, pages, layout, heads_of(4, 40)), oracle)


def test_a_row_with_nothing_to_attend_to_stays_finite() -> None:
    layout = replace(layout_of([([0], 1, 1)]), positions=mx.array([-1], mx.int32))
    pages = stale(2, KV_HEADS, DIM, DIM, Format.FLOAT32)
    out = paged_attention(normal(1, 4, DIM), pages, layout, heads_of(4))
    assert float(mx.max(mx.abs(out))) == 0


def test_a_narrower_pool_is_read_in_the_dtype_of_the_queries() -> None:
    pages = fill(zeros(4, KV_HEADS, DIM, DIM, Format.FLOAT16), [2, 1], 40, seed=5)
    assert pages.format == Format.FLOAT16
    q = normal(40, 4, DIM)
    layout = layout_of([([2, 1], 40, 40)])
    out = paged_attention(q, pages, layout, heads_of(4))
    assert out.dtype == mx.float32
    assert close(out, paged_attention_reference(q, pages, layout, heads_of(4)))


def test_appends_are_in_place() -> None:
    """200 MB of pool, 64 rows: neither the address nor the peak may show a copy."""
    cache = zeros(3000, 8, 64, 64, Format.FLOAT32)
    mx.eval(cache.arrays)
    size, address = cache.keys.nbytes, np.asarray(cache.keys).ctypes.data
    slot_mapping = mx.array(np.random.RandomState(0).permutation(3000 * PAGE)[:64], mx.int32)
    empty = mx.zeros((0,), mx.int32)
    layout = Layout(empty, slot_mapping, empty, empty, 0, ())
    for seed in range(3):
        x = normal(64, 8, 64, seed=seed)
        mx.eval(x, slot_mapping)
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        cache = append(x, x * 2, cache, layout)
        mx.eval(cache.arrays)
        assert mx.get_peak_memory() - before < size / 50
        assert np.asarray(cache.keys).ctypes.data == address
    page, offset = divmod(int(slot_mapping[5]), PAGE)
    assert cache.values is not None
    assert same(cache.keys[page, :, :, offset], normal(64, 8, 64, seed=2)[5])
    assert same(cache.values[page, :, offset], normal(64, 8, 64, seed=2)[5] * 2)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_queries_of_16_bits_give_the_same_beside_sinks_in_float32(
    dtype: mx.Dtype, filled: tuple[Pages, list[list[int]]]
) -> None:
    pages, dealt = filled
    layout = layout_of([(dealt[2], 32, 1), (dealt[4], 64, 9)])
    heads = replace(heads_of(4), sinks=normal(4, seed=3))
    q = (normal(10, 4, DIM) * 2).astype(dtype)
    out = paged_attention(q, pages, layout, heads)
    oracle = paged_attention_reference(q.astype(mx.float32), pages, layout, heads)
    assert out.dtype == dtype
    assert float(mx.max(mx.abs(out - oracle))) < (0.005 if dtype == mx.float16 else 0.05)
