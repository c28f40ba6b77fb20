"""The arrays behind the pages: one pool a layer, allocated once."""

from collections.abc import Sequence

import mlx.core as mx

from ..kernels.pages import PAGE, Pages


def allocate(
    layers: int, pages: int, kv_heads: int, head_dim: int, dtype: mx.Dtype
) -> Sequence[Pages]:
    """Pools of `pages` pages for each layer, filled with zeros and resident."""
    shape = (pages, kv_heads, PAGE, head_dim)
    pools = [Pages(mx.zeros(shape, dtype), mx.zeros(shape, dtype)) for _ in range(layers)]
    mx.eval([array for pool in pools for array in (pool.keys, pool.values)])
    return pools


def page_bytes(layers: int, kv_heads: int, head_dim: int, itemsize: int) -> int:
    """What one page costs over all layers, keys and values."""
    return 2 * layers * kv_heads * PAGE * head_dim * itemsize
