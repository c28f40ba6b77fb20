"""Allocated caches: as many bytes as were planned, for each group and kind."""

import pytest

from bessemer.architectures.config import Paged
from bessemer.architectures.registry import configure
from bessemer.engine.cache_sizes import CacheSizes
from bessemer.engine.kv_cache import allocate, arrays_of, page_bytes, state_bytes
from bessemer.kernels.attention.pages import Format, Pages
from tests.architectures.parity import Golden

NAMES = [
    "llama_llama3",
    "qwen3_layer_types_tied",
    "gemma4_per_layer_lending",
    "deepseek_v2_lite_yarn",
    "mamba2_groups",
    "qwen3_next_shared_keys",
    "nemotron_h_plain",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("format", Format)
def test_bytes_are_those_of_the_plan(name: str, format: Format) -> None:
    config = configure(Golden.read(name).config)
    sizes = CacheSizes(config.windows, tuple(range(5, 5 + len(config.windows))), 3)
    pages = zip(sizes.windows, sizes.pages, strict=True)
    planned = sum(page_bytes(config, window, format) * (count + 1) for window, count in pages)
    arrays = arrays_of(allocate(config, sizes, format))
    assert sum(array.nbytes for array in arrays) == planned + 4 * state_bytes(config)


def test_each_layer_has_the_pages_of_its_window() -> None:
    config = configure(Golden.read("qwen3_layer_types_tied").config)
    sizes = CacheSizes(config.windows, (9, 4))
    for spec, cache in zip(config.caches, allocate(config, sizes, Format.FLOAT16), strict=True):
        assert isinstance(spec, Paged) and isinstance(cache, Pages) and cache.fence is None
        assert cache.keys.shape[0] == (10 if spec.window is None else 5)
    written = allocate(config, sizes, Format.FLOAT16, "in-place")
    assert all(isinstance(cache, Pages) and cache.fence is not None for cache in written)
    assert len(arrays_of(written)) == 3 * config.layers
