"""Pages that a window has left behind: page 0 stands for them in tables, full of NaN."""

from dataclasses import replace

import mlx.core as mx
import pytest

from bessemer.kernels.attention.attention import attention, attention_mlx, attention_reference
from bessemer.kernels.attention.attention_metal import attention_metal
from bessemer.kernels.attention.pages import FENCE, PAGE, Append, Format, Heads, Layout, Pages
from bessemer.kernels.attention.rope import Table
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using

from ..arrays import normal
from ..steps import layout_of
from ..tiers import NATIVE, in_library, loaded
from .test_attention import TOLERANCE, Past, heads_of, width

CHECK = Simulator(SimulatorOptions(mode="check"))
DECODES = [(130, 1), (97, 1), (33, 1), (64, 1)]
MIXED = [*DECODES, (200, 40), (120, 7), (96, 33)]  # contexts and, of those, the step's rows
WAYS = [*NATIVE, "mlx", "replaced", "in place", "tail"]


def attended(
    way: str, qkv: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout
) -> tuple[mx.array, Pages]:
    if way in NATIVE:
        return in_library(attention, loaded(way))(qkv, heads, table, pages, layout)
    if way == "mlx":
        return attention_mlx(qkv, heads, table, pages, layout)
    if way == "in place":
        pages = replace(pages, append=Append.IN_PLACE, fence=mx.zeros((FENCE,)))
    if way == "tail":
        pages = replace(pages, append=Append.TAIL)
        layout = replace(layout, tails=layout.positions // PAGE * PAGE)
    with using(CHECK):
        out, pages = attention_metal(qkv, heads, table, pages, layout)
        mx.eval(out)
    return out, pages


def left(table: list[int], first: int, window: int) -> list[int]:
    """The table of a sequence whose next row has position `first`."""
    gone = max(0, first + 1 - window) // PAGE
    return [0] * gone + table[gone:]


def check(way: str, heads: Heads, format: Format) -> None:
    assert heads.window is not None
    runs = DECODES if way == "tail" else MIXED
    past = Past.of(attention_reference, heads, runs, format)
    pages = zip(past.tables, runs, strict=True)
    tables = [left(table, context - rows, heads.window) for table, (context, rows) in pages]
    stored = past.pages.keys if past.pages.key_scales is None else past.pages.key_scales
    assert 0 in tables[0] and bool(mx.all(mx.isnan(stored[0])))
    layout = layout_of([(t, c, r) for t, (c, r) in zip(tables, runs, strict=True)])
    qkv = normal(layout.positions.shape[0], width(heads)) * 1.5
    full_layout = layout_of([(t, c, r) for t, (c, r) in zip(past.tables, runs, strict=True)])
    oracle = replace(past).step(attention_reference, qkv, full_layout)
    out = past.step(lambda *arguments: attended(way, *arguments), qkv, layout)
    error = float(mx.max(mx.abs(out - oracle))) / float(mx.max(mx.abs(oracle)))
    assert error <= TOLERANCE[format]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("window", [1, 5, 32, 33, 40])
def test_nobody_reads_them(way: str, window: int) -> None:
    check(way, heads_of(4, 2, 32, window=window), Format.FLOAT32)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("format", [Format.INT8, Format.INT4])
def test_nor_their_scales(way: str, format: Format) -> None:
    check(way, heads_of(2, 1, 32, window=40, softcap=2.0), format)


@pytest.mark.parametrize("way", ["mlx", "replaced"])
def test_nor_do_heads_that_the_prefill_kernel_is_not_for(way: str) -> None:
    sinks = mx.array([0.5, -1.0])
    mx.eval(sinks)
    check(way, heads_of(2, 1, 20, 12, window=40, sinks=sinks), Format.FLOAT32)
