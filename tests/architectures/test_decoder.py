"""Steps of a decoder: which rows have logits, which rows are together, what is copied."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.architectures.config import Paged
from bessemer.architectures.step import StepRows
from bessemer.engine.model import Model
from bessemer.kernels.attention.pages import PAGE, Format, Layout, Pages, Prefill, zeros

from .parity import model
from .steps import Session, prefill
from .tiny import prompts


@pytest.mark.parametrize("name", ["mistral_window_wide_head", "llama_affine"])
def test_a_row_among_64_is_the_row_alone(name: str) -> None:
    text = prompts()[0]
    session = Session(model(name), lambda _: len(text), pages=256)
    reference = prefill(model(name), text)
    for i in range(64):
        session.step({}, {i: text[: i + 5]})
    rows = session.step({i: text[i + 5] for i in range(64)}, {})
    assert all((rows[i][0] == reference[i + 5]).all() for i in range(64))


def step_of(tokens: list[int]) -> tuple[mx.array, StepRows]:
    """A prompt alone, on pages from 1 on."""
    count = len(tokens)
    table = mx.array([list(range(1, 2 + (count - 1) // PAGE))], mx.int32)
    positions, slot_mapping = (mx.array(np.arange(count, dtype=np.int32) + n) for n in (0, PAGE))
    owners = mx.array(np.zeros(count, np.int32))
    layout = Layout(positions, slot_mapping, owners, table, 0, (Prefill(0, count, count),))
    return mx.array(tokens, mx.int32), StepRows((layout,), positions)


@pytest.mark.parametrize("name", ["llama_llama3", "llama_affine"])
def test_only_the_wanted_rows_have_logits(name: str) -> None:
    text, loaded = prompts()[0], model(name)
    tokens, step = step_of(text)
    cache = Session(loaded, lambda _: len(text)).cache
    reference = prefill(loaded, text)
    for rows in ([74], [3, 40], []):
        positions = mx.array(rows, mx.int32)
        logits, written = loaded.decoder(tokens, step, cache, positions)
        mx.eval(logits, [array for paged in written if paged for array in paged.arrays])
        assert logits.shape == (len(rows), 80)
        assert logits.dtype == mx.float32
        assert (np.array(logits) == reference[rows]).all()


def pools(loaded: Model, pages: int) -> list[Pages]:
    paged = [cache for cache in loaded.config.caches if isinstance(cache, Paged)]
    sizes = [(cache.kv_heads, cache.head_dim, cache.value_dim) for cache in paged]
    return [zeros(pages, *size, Format.FLOAT32) for size in sizes]


def test_a_step_copies_no_pool() -> None:
    loaded = model("llama_llama3")
    cache = pools(loaded, 8000)
    mx.eval([array for pool in cache for array in pool.arrays])
    tokens, step = step_of(prompts()[0])
    size = cache[0].keys.nbytes
    for _ in range(3):
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        logits, written = loaded.decoder(tokens, step, cache, mx.array([0]))
        cache = [pool for pool in written if isinstance(pool, Pages)]
        mx.eval(logits, [array for pool in cache for array in pool.arrays])
        assert mx.get_peak_memory() - before < size / 8
