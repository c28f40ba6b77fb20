"""The arrays behind the pages: one pool a layer, allocated once."""

from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx

from ..kernels import pages as kernel
from ..kernels.cpu.library import in_large_pages
from ..kernels.pages import Format, Pages
from .wire import Pattern


def allocate(
    layers: int,
    pages: int,
    kv_heads: int,
    head_dim: int,
    value_dim: int,
    format: Format,
    pattern: Pattern = "functional",
) -> Sequence[Pages]:
    """Pools of `pages` pages for each layer, filled with zeros and resident."""
    pools = [kernel.zeros(pages, kv_heads, head_dim, value_dim, format) for _ in range(layers)]
    if pattern == "in-place":
        pools = [replace(pool, token=mx.zeros((kernel.TOKEN,))) for pool in pools]
    arrays = [array for pool in pools for array in pool.arrays]
    mx.eval(arrays)
    in_large_pages(arrays)
    return pools


def page_bytes(layers: int, kv_heads: int, head_dim: int, value_dim: int, format: Format) -> int:
    """What one page costs over all layers, keys, values and scales."""
    return layers * kernel.page_bytes(kv_heads, head_dim, value_dim, format)
