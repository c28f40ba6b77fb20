"""The arrays behind pages and state slots: one cache a block, allocated once."""

from collections.abc import Sequence
from math import prod

import mlx.core as mx

from ..architectures.config import ModelConfig, Paged, Recurrent
from ..architectures.step import Cache
from ..kernels.attention import pages as kernel
from ..kernels.attention.pages import Append, Format
from ..kernels.cpu.memory import blank
from ..kernels.recurrent.runs import States
from .cache_sizes import CacheSizes
from .settings import Pattern


def allocate(
    config: ModelConfig, sizes: CacheSizes, format: Format, pattern: Pattern = "functional"
) -> list[Cache]:
    """Allocate a cache for each block, filled with zeros; `pattern` is of pages.

    On a CPU a page takes memory from its first use on, and the plan is what they may take.
    """
    pages = dict(zip(sizes.windows, sizes.pages, strict=True))
    caches = [_allocate(spec, pages, sizes.states, format, pattern) for spec in config.caches]
    mx.eval(arrays_of(caches))
    return caches


def arrays_of(caches: Sequence[Cache]) -> list[mx.array]:
    """List all arrays that have to be evaluated."""
    return [array for cache in caches if cache is not None for array in cache.arrays]


def page_bytes(config: ModelConfig, window: int | None, format: Format) -> int:
    """Return the bytes of one page over all layers with such a window: keys, values, scales."""
    return sum(
        kernel.page_bytes(spec.kv_heads, spec.head_dim, spec.value_dim, format)
        for spec in config.caches
        if isinstance(spec, Paged) and spec.window == window
    )


def state_bytes(config: ModelConfig) -> int:
    """Return the bytes of one sequence's states over all layers that keep one."""
    specs = [spec for spec in config.caches if isinstance(spec, Recurrent)]
    return sum(mx.float32.size * prod(shape) for spec in specs for shape in spec.shapes)


def _allocate(
    spec: Paged | Recurrent | None,
    pages: dict[int | None, int],
    states: int,
    format: Format,
    pattern: Pattern,
) -> Cache:
    """Allocate one block's cache, with a null page or state more than can be allocated."""
    if spec is None:
        return None
    if isinstance(spec, Recurrent):
        return States(tuple(blank((states + 1, *shape), mx.float32) for shape in spec.shapes))
    count = pages[spec.window] + 1
    sizes = (count, spec.kv_heads, spec.head_dim, spec.value_dim)
    return kernel.zeros(*sizes, format, Append(pattern))
