"""Pages gathered on Metal, in the simulator, against NumPy's own taking of them."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.attention.gather_pages import gather_pages
from bessemer.kernels.attention.pages import PAGE, Heads, Pages
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using

TABLE, CONTEXT = [4, 1, 3], 2 * PAGE + 5
KV_HEADS, DIM, VALUES = 2, 64, 32


def pool() -> Pages:
    random = np.random.default_rng(0)
    keys = random.standard_normal((6, KV_HEADS, DIM, PAGE)).astype(np.float32)
    values = random.standard_normal((6, KV_HEADS, PAGE, VALUES)).astype(np.float32)
    return Pages(mx.array(keys), mx.array(values))


def taken(pages: np.ndarray) -> np.ndarray:
    """(kv_heads, tokens, width) of (pages, kv_heads, PAGE, width), nothing past the context."""
    out = np.concatenate(list(pages[TABLE]), axis=1)
    out[:, CONTEXT:] = 0
    return out


@pytest.mark.parametrize("values", [True, False])
def test_keys_and_values_in_the_tables_order(values: bool) -> None:
    pages, heads = pool(), Heads(4, KV_HEADS, DIM, 1.0, VALUES)
    assert pages.values is not None
    keys = taken(np.array(pages.keys).swapaxes(2, 3))
    oracle = taken(np.array(pages.values)) if values else keys[..., :VALUES]
    pages = pages if values else replace(pages, values=None)
    with using(Simulator(SimulatorOptions(mode="check"))):
        k, v = gather_pages(pages, mx.array(TABLE, mx.int32), CONTEXT, heads, mx.float32)
        assert np.array_equal(np.array(k), keys)
        assert np.array_equal(np.array(v), oracle)
