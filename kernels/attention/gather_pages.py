"""A sequence's pages as contiguous keys and values, on Metal."""

import mlx.core as mx

from ..metal.library import kernel, nothing, padded, scalar
from .pages import PAGE, Format, Heads, Pages

Scaling = tuple[mx.array | None, mx.array | None]  # scales and biases
THREADS = 128  # the four simdgroups that gather_pages.metal steps by


def gather_pages(
    pages: Pages, table: mx.array, context: int, heads: Heads, dtype: mx.Dtype
) -> tuple[mx.array, mx.array]:
    """Gather `table`'s pages in order: (kv_heads, len(table) * PAGE, head_dim or value_dim) each.

    What is not among the first `context` tokens is 0. Where the pages have no values, a value is
    the beginning of its key.
    """
    count = table.shape[0]
    keys, values, key_scales, key_biases, value_scales, value_biases = pages.parts

    def gathered(name: str, codes: mx.array, scaling: Scaling, width: int) -> mx.array:
        return kernel("gather_pages", name)(
            [
                codes,
                *(nothing(mx.float16) if part is None else part for part in scaling),
                padded(table),
                nothing(mx.float16) if pages.fence is None else pages.fence,
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

    k = gathered("gather_keys", keys, (key_scales, key_biases), heads.head_dim)
    if values is None:
        return k, k[..., : heads.value_dim]
    return k, gathered("gather_values", values, (value_scales, value_biases), heads.value_dim)
