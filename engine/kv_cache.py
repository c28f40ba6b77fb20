"""The arrays behind pages and slots: one cache a block, allocated once."""

from collections.abc import Sequence
from math import prod

import mlx.core as mx

from ..architectures.config import ModelConfig, Paged, Recurrent
from ..architectures.step import Cache
from ..kernels.attention import pages as kernel
from ..kernels.attention.pages import Append, Format
from ..kernels.cpu.library import in_large_pages
from ..kernels.recurrent.runs import States
from .cache_sizes import CacheSizes
from .settings import Pattern


def allocate(
    config: ModelConfig, sizes: CacheSizes, format: Format, pattern: Pattern = "functional"
) -> list[Cache]:
    """A cache for each block, filled with zeros and resident; the pattern is of the pages."""
    pages = dict(zip(sizes.windows, sizes.pages, strict=True))
    caches = [_allocated(kept, pages, sizes.states, format, pattern) for kept in config.caches]
    arrays = arrays_of(caches)
    mx.eval(arrays)
    in_large_pages(arrays)
    return caches


def arrays_of(caches: Sequence[Cache]) -> list[mx.array]:
    """All that has to be evaluated."""
    return [array for cache in caches if cache is not None for array in cache.arrays]


def page_bytes(config: ModelConfig, window: int | None, format: Format) -> int:
    """What one page costs over all layers with such a window, keys, values and scales."""
    return sum(
        kernel.page_bytes(kept.kv_heads, kept.head_dim, kept.value_dim, format)
        for kept in config.caches
        if isinstance(kept, Paged) and kept.window == window
    )


def state_bytes(config: ModelConfig) -> int:
    """What one sequence's states cost over all layers that keep one."""
    kept = [cache for cache in config.caches if isinstance(cache, Recurrent)]
    return sum(mx.float32.size * prod(shape) for cache in kept for shape in cache.shapes)


def _allocated(
    kept: Paged | Recurrent | None,
    pages: dict[int | None, int],
    states: int,
    format: Format,
    pattern: Pattern,
) -> Cache:
    """With page 0 and slot 0, which are nobody's."""
    if kept is None:
        return None
    if isinstance(kept, Recurrent):
        return States(tuple(mx.zeros((states + 1, *shape)) for shape in kept.shapes))
    count = pages[kept.window] + 1
    sizes = (count, kept.kv_heads, kept.head_dim, kept.value_dim)
    return kernel.zeros(*sizes, format, Append(pattern))
