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
from .pages import FORMATS, PAGE, Append, Format, Heads, Layout, Pages, zeros
from .rope import Table, rope_table

Arguments = tuple[mx.array, Heads, Table, Pages, Layout]
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


def is_fused(heads: Heads, format: Format, dtype: mx.Dtype) -> bool:
    """Return whether rows that decode go through Metal kernels here: only those know Append."""
    return attention.in_metal and attention.is_custom(*case(heads, format, dtype, (33, 7)))


def case(heads: Heads, format: Format, dtype: mx.Dtype, contexts: Sequence[int]) -> Arguments:
    """Make arguments: sequences of these lengths with one token each, over alternating pages."""
    rows, width = len(contexts), -(-max(contexts) // PAGE)
    pages = zeros(1 + rows * width, heads.kv_heads, heads.head_dim, heads.value_dim, format)
    positions = np.array(contexts, np.int32) - 1
    tables = 1 + np.arange(rows * width, dtype=np.int32).reshape(width, rows).T
    slot_mapping = tables[np.arange(rows), positions // PAGE] * PAGE + positions % PAGE
    parts = (positions, slot_mapping, np.arange(rows), tables)
    arrays = [mx.array(part.astype(np.int32)) for part in parts]
    layout = Layout(arrays[0], arrays[1], arrays[2], arrays[3], rows, ())
    table = rope_table(layout.positions, mx.ones((heads.head_dim // 2,)), 1.0)
    size = (heads.heads + heads.kv_heads) * heads.head_dim + heads.kv_heads * heads.value_dim
    return mx.random.normal((rows, size)).astype(dtype), heads, table, pages, layout


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
    """Yield the first token, a page's last and the next one's first; with a window too."""
    for kv_heads, window in ((1, None), (2, 20)):
        heads = Heads(4, kv_heads, 64, 0.125, 64, window=window)
        yield case(heads, FORMATS[dtype], dtype, (1, 32, 33))


def is_pending(*arguments: Any) -> bool:
    """Return whether `is_fused` has chosen the kernels: others read no tails and keep no order."""
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
        (
            *("attention.metal", "attention_quantized.metal", "attention_merge.metal"),
            *("append_pages.metal", "gather_pages.metal"),
        ),
        attention_metal,
        key,
        _edges,
        takes=lambda qkv, heads, table, pages, layout: covers(heads, pages.format),
        results=lambda result: (result[0],),
        decided=is_pending,
    ),
)
