"""Attention in C: what Python tells it, what it stores, what it never reads."""

import ctypes
from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.attention.attention import (
    attention,
    attention_mlx,
)
from bessemer.kernels.attention.attention_c import AttentionStruct
from bessemer.kernels.attention.pages import Format, Layout, Pages
from bessemer.kernels.cpu.library import Library

from ..arrays import normal, same
from ..steps import layout_of, stale, tables
from ..tiers import NATIVE, in_library, loaded
from .test_attention import Past, heads_of, table_of, width


@pytest.fixture(params=NATIVE)
def library(request: pytest.FixtureRequest) -> Library:
    return loaded(request.param)


def test_python_and_c_lay_out_the_call_alike(library: Library) -> None:
    assert library.handle.attention_size() == ctypes.sizeof(AttentionStruct)


def test_threads_change_nothing(library: Library) -> None:
    heads = heads_of(16, 1, 64)
    qkv = normal(90, width(heads))
    outputs = []
    for threads in (1, 2, 5):
        library.resize(threads)
        attend = in_library(attention, library)
        past = Past.of(attend, heads, [(198, 90)])
        outputs.append(past.step(attend, qkv, layout_of([(past.tables[0], 198, 90)])))
    assert same(outputs[0], outputs[1]) and same(outputs[0], outputs[2])


@pytest.mark.parametrize("format", [Format.FLOAT32, Format.FLOAT16, Format.INT8])
def test_what_others_left_in_a_page_is_never_seen(library: Library, format: Format) -> None:
    """Slots after a row may hold NaN, whether in its last page or between rows of its block."""
    heads, attend = heads_of(4, 2, 64), in_library(attention, library)
    past = Past.of(attend, heads, [(40, 8)], format)
    qkv = normal(8, width(heads))
    bad = mx.concatenate([qkv[:5], qkv[5:] * float("nan")])
    layout = layout_of([(past.tables[0], 40, 8)])
    good = past.step(attend, qkv, layout)
    spoiled = past.step(attend, bad, layout)
    assert same(spoiled[:5], good[:5])
    assert bool(mx.all(mx.isnan(spoiled[5:])))


def test_a_row_before_the_beginning_sees_nothing(library: Library) -> None:
    heads = heads_of(2, 1, 64)
    pages = stale(3, 1, 64, 64, Format.FLOAT32)
    zero = mx.array(np.zeros(1, np.int32))
    layout = Layout(mx.array(np.array([-1], np.int32)), zero, zero, zero[None], 1, ())
    mx.eval(layout.tables)
    out, _ = in_library(attention, library)(
        normal(1, width(heads)), heads, table_of(layout, 0), pages, layout
    )
    assert float(mx.max(mx.abs(out))) == 0


@pytest.mark.parametrize("format", [Format.INT8, Format.INT4])
def test_both_implementations_store_alike(library: Library, format: Format) -> None:
    """They agree but for a code or two that lie on a tie."""
    heads = heads_of(2, 2, 72)
    runs = layout_of([(tables([60])[0], 60, 60)])
    qkv = normal(60, width(heads))
    qkv[3] = 0
    pools = []
    for by in (in_library(attention, library), attention_mlx):
        pages = stale(3, 2, 72, 72, format)
        _, pages = by(qkv, heads, table_of(runs, 36), pages, runs)
        mx.eval(pages.arrays)
        pools.append([np.nan_to_num(np.array(array).astype(np.float32)) for array in pages.arrays])
    for a, b in zip(*pools, strict=True):
        assert (a != b).mean() < 0.01


HALVES = (Format.FLOAT16, Format.INT8, Format.INT4)  # what has a binary16 in it
HUGE = 3e8  # over 127 * 65504, the most that a scale of INT8 reaches


def stored(by: Callable[..., tuple[mx.array, Pages]], qkv: mx.array, format: Format) -> mx.array:
    heads, runs = heads_of(2, 2, 72), layout_of([(tables([40])[0], 40, 40)])
    out, _ = by(qkv, heads, table_of(runs, 36), stale(3, 2, 72, 72, format), runs)
    return out


@pytest.mark.parametrize("size", [1e5, HUGE])
@pytest.mark.parametrize("format", HALVES)
def test_what_is_beyond_binary16_is_held_at_its_end(
    library: Library, format: Format, size: float
) -> None:
    """Keys and values of a bfloat16 model may be larger than a pool of 16 bits can say."""
    qkv = mx.clip(normal(40, width(heads_of(2, 2, 72))) * size, -4 * size, 4 * size)
    for by in (in_library(attention, library), attention_mlx):
        out = stored(by, qkv, format)
        assert bool(mx.all(mx.isfinite(out))) and bool(mx.any(mx.abs(out) > 6e4))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("format", HALVES)
def test_what_is_not_finite_is_not_hidden(library: Library, format: Format, value: float) -> None:
    heads = heads_of(2, 2, 72)
    qkv = np.array(normal(40, width(heads)))
    qkv[20, 2 * 72 :] = value  # the keys and values of a row, not its queries
    for by in (in_library(attention, library), attention_mlx):
        out = stored(by, mx.array(qkv), format)
        assert bool(mx.all(mx.isnan(out[20:])))
