"""A sequence's pages as contiguous keys and values, on Metal."""

import mlx.core as mx

from .metal.library import kernel, nothing, padded, scalar
from .pages import PAGE, Format, Heads, Pages

THREADS = 128  # the four simdgroups that gather_pages.metal steps by


def gather_pages(
    pages: Pages, table: mx.array, context: int, heads: Heads, dtype: mx.Dtype
) -> tuple[mx.array, mx.array]:
    """(kv_heads, len(table) * PAGE, head_dim or value_dim) of `table`'s pages, in order.

    What is not among the first `context` tokens is 0. Where the pages have no values, a value is
    the beginning of its key.
    """
    keys = (pages.keys, pages.key_scales, pages.key_biases)
    values = (pages.values, pages.value_scales, pages.value_biases)
    made = _gathered("gather_keys", keys, heads.head_dim, pages, table, context, heads, dtype)
    if pages.values is None:
        return made, made[..., : heads.value_dim]
    return made, _gathered(
        "gather_values", values, heads.value_dim, pages, table, context, heads, dtype
    )


def _gathered(
    name: str,
    parts: tuple[mx.array | None, ...],
    width: int,
    pages: Pages,
    table: mx.array,
    context: int,
    heads: Heads,
    dtype: mx.Dtype,
) -> mx.array:
    codes, scales, biases = parts
    assert codes is not None
    count = table.shape[0]
    return kernel("gather_pages", name)(
        [
            codes,
            nothing(mx.float16) if scales is None else scales,
            nothing(mx.float16) if biases is None else biases,
            padded(table),
            nothing(mx.float16) if pages.token is None else pages.token,
            scalar(context, mx.int32),
            scalar(width, mx.int32),
        ],
        [((heads.kv_heads, count * PAGE, width), dtype)],
        (count * THREADS, heads.kv_heads, 1),
        (THREADS, 1, 1),
        T=dtype,
        K=codes.dtype,
        PACK=2 if pages.format == Format.INT4 else 1,
    )[0]
