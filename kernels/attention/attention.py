"""Attention of a step in one call: norms of heads, rotary positions, append, paged attention."""

from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from ..cpu.library import Function, address, ready
from ..registry import InMetal, Key, Operation, anything, bucket, in_c
from .attention_c import ATTENTION, run
from .attention_metal import attention_metal, covers
from .paged_attention import BY_DEFINITION, BY_MLX
from .paged_attention import append as append_to
from .pages import FORMATS, PAGE, Append, Format, Heads, Layout, Pages, Prefill, zeros
from .rope import Table, rope_table

Arguments = tuple[mx.array, Heads, Table, Pages, Layout]
FILES = (
    *("attention.metal", "attention_quantized.metal", "attention_merge.metal"),
    *("append_pages.metal", "gather_pages.metal"),
)
attention_mlx, attention_reference = BY_MLX.attention, BY_DEFINITION.attention


@in_c("op_attention", ATTENTION, takes=anything)
def _attention_c(
    native: Function, qkv: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout
) -> tuple[mx.array, Pages]:
    qkv = ready(qkv)
    start = address(qkv) if qkv.shape[0] else 0
    k = start + 4 * heads.heads * heads.head_dim
    v = k + 4 * heads.kv_heads * heads.head_dim
    width = qkv.shape[1]
    return run(native, (start, k, v), (width, width), heads, table, pages, layout)


def case(heads: Heads, format: Format, dtype: mx.Dtype, contexts: Sequence[int]) -> Arguments:
    """Make arguments: sequences of these lengths with one token each, over alternating pages."""
    tables = tables_for(contexts)
    pages = pool_of(
        tables, [count - 1 for count in contexts], heads, heads.value_dim, format, dtype
    )
    layout = layout_of(tables, [range(count - 1, count) for count in contexts])
    table = rope_table(layout.positions, mx.ones((heads.head_dim // 2,)), 1.0)
    size = (heads.heads + heads.kv_heads) * heads.head_dim + heads.kv_heads * heads.value_dim
    return mx.random.normal((len(contexts), size)).astype(dtype), heads, table, pages, layout


def tables_for(contexts: Sequence[int]) -> np.ndarray:
    """Return (sequences, pages): pages for so many tokens each, dealt out in turns."""
    width = -(-max(contexts) // PAGE)
    return 1 + np.arange(len(contexts) * width, dtype=np.int32).reshape(width, -1).T


def pool_of(
    tables: np.ndarray,
    counts: Sequence[int],
    heads: Heads,
    value_dim: int,
    format: Format,
    dtype: mx.Dtype,
    append: Append = Append.FUNCTIONAL,
) -> Pages:
    """Allocate a pool in which each sequence has so many tokens; without values for value_dim 0."""
    pages = zeros(1 + tables.size, heads.kv_heads, heads.head_dim, value_dim, format, append)
    layout = layout_of(tables, [range(count) for count in counts])
    k, v = (
        mx.random.normal((sum(counts), heads.kv_heads, width)).astype(dtype)
        for width in (heads.head_dim, max(1, value_dim))
    )
    pages = append_to(k, v if value_dim else None, pages, layout)
    mx.eval(pages.arrays)
    return pages


def layout_of(tables: np.ndarray, runs: Sequence[range]) -> Layout:
    """Lay out a run of each sequence; where each is of one row, all decode."""
    owners = np.repeat(np.arange(len(runs)), [len(run) for run in runs])
    positions = np.concatenate([np.array(run, np.int32) for run in runs])
    slots = tables[owners, positions // PAGE] * PAGE + positions % PAGE
    arrays = [mx.array(part.astype(np.int32)) for part in (positions, slots, owners, tables)]
    if all(len(run) == 1 for run in runs):
        return Layout(arrays[0], arrays[1], arrays[2], arrays[3], len(runs), ())
    ends = np.cumsum([len(run) for run in runs]).tolist()
    prefills = tuple(
        Prefill(end - len(run), end, run.stop) for end, run in zip(ends, runs, strict=True)
    )
    return Layout(arrays[0], arrays[1], arrays[2], arrays[3], 0, prefills)


def key(x: mx.array, *rest: object) -> Key:
    """Tell apart steps, heads and pages that may deserve another verdict."""
    heads, table, pages, layout = rest[-4:]
    assert isinstance(heads, Heads) and isinstance(table, Table)
    assert isinstance(pages, Pages) and isinstance(layout, Layout)
    step = (bucket(layout.decodes), bucket(layout.tables.shape[1]), bool(layout.prefills))
    sizes = (heads.heads, heads.kv_heads, heads.head_dim, heads.value_dim, table.cos.shape[-1])
    parts = (heads.q_norm, heads.k_norm, heads.sinks, heads.softcap)
    kinds = "".join(str(int(part is not None)) for part in parts)
    return (*step, *sizes, heads.window or 0, kinds, pages.format, x.dtype)


def _edges(dtype: mx.Dtype) -> Iterator[Arguments]:
    """Yield the first token, a page's last and the next one's first; a window; parts to join."""
    heads, windowed = (
        Heads(4, n, 64, 0.125, 64, window=window) for n, window in ((1, None), (2, 20))
    )
    for format in (FORMATS[dtype], Format.INT8, Format.INT4):
        yield case(windowed, format, dtype, (1, 32, 33))
        yield case(heads, format, dtype, (33, 1, 18 * PAGE))


def is_pending(*arguments: Any) -> bool:
    """Return whether `decoding` has chosen the kernels: others read no tails and keep no order."""
    pages, layout = arguments[-2:]
    return pages.append is Append.IN_PLACE or (pages.append is Append.TAIL and not layout.prefills)


# qkv: (rows, (heads + kv_heads) * head_dim + kv_heads * value_dim), queries first, to (rows,
# heads * value_dim). The C kernel writes the pages in place.
attention = Operation(
    "attention",
    attention_mlx,
    attention_reference,
    _attention_c,
    InMetal(
        FILES,
        attention_metal,
        key,
        _edges,
        takes=lambda qkv, heads, table, pages, layout: covers(heads, pages.format),
        results=lambda result: (result[0],),
        decided=is_pending,
    ),
)
