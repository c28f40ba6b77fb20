"""Ragged steps for kernel tests: sequences over scattered pages, laid out as an engine does."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from bessemer.kernels.attention.pages import PAGE, Format, Layout, Pages, Prefill, pages_of, zeros


def tables(contexts: Sequence[int]) -> list[list[int]]:
    """Pages dealt out in a scattered order, from 1 on."""
    counts = [-(-context // PAGE) for context in contexts]
    free = [int(p) + 1 for p in np.random.RandomState(3).permutation(sum(counts))]
    return [[free.pop() for _ in range(count)] for count in counts]


def layout_of(runs: Sequence[tuple[list[int], int, int]]) -> Layout:
    """runs: (table, context once appended, rows); single rows first."""
    width = max((len(table) for table, _, _ in runs), default=0)
    padded = [table + [0] * (width - len(table)) for table, _, _ in runs]
    prefills: list[Prefill] = []
    places: list[int] = []
    into: list[int] = []
    belong: list[int] = []
    for owner, (table, context, rows) in enumerate(runs):
        if rows > 1:
            prefills.append(Prefill(len(places), len(places) + rows, context))
        places += range(context - rows, context)
        into += [table[p // PAGE] * PAGE + p % PAGE for p in places[-rows:]]
        belong += [owner] * rows
    positions, slot_mapping, owners, filled = (
        mx.array(np.array(array, np.int32))
        for array in (places, into, belong, np.reshape(padded, (-1, width)))
    )
    decodes = len(runs) - len(prefills)
    return Layout(positions, slot_mapping, owners, filled, decodes, tuple(prefills))


def stale(count: int, kv_heads: int, head_dim: int, value_dim: int, format: Format) -> Pages:
    """Pages full of NaN; where codes are whole numbers, the scales are NaN."""
    pages = zeros(count, kv_heads, head_dim, value_dim, format)

    def spoiled(array: mx.array | None) -> mx.array | None:
        if array is None or not mx.issubdtype(array.dtype, mx.floating):
            return array
        nan = mx.full(array.shape, float("nan"), array.dtype)
        mx.eval(nan)
        return nan

    return pages_of(map(spoiled, pages.parts))
