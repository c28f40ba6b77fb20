"""Workloads of attention in a decoding step, for models that keep keys and values of heads."""

from collections.abc import Iterator
from dataclasses import replace

import mlx.core as mx
import numpy as np

from bessemer.bench.kernels.workload import Arrays, Demand, Workload, decoding
from bessemer.kernels.attention.attention import attention, attention_mlx
from bessemer.kernels.attention.pages import (
    FENCE,
    FORMATS,
    PAGE,
    TAIL_PAGES,
    Append,
    Heads,
    Layout,
    Pages,
    Tail,
    page_bytes,
)
from bessemer.kernels.attention.rope import Table, rope_table_reference

FEW = 16  # rows of a step for which these kernels are


def workloads(demand: Demand) -> Iterator[Workload]:
    """Yield steps of one token a row: into a pool that stays, beside tails half full, and in place.

    minimum: keys and values of the context once, qkv, the outputs; in place, the new key and value
    are stored, and into tails, all tokens since their start are. Where a context is split, what
    the splits leave for the merge comes on top.
    """
    model = demand.dimensions
    if demand.prompt or model.latent or demand.rows > FEW or not model.heads:
        return
    arrays = Arrays(demand, np.random.default_rng(0))
    width = (model.heads + 2 * model.kv_heads) * model.head_dim
    qkv = arrays.normal(demand.rows, width)
    dim = model.head_dim
    heads = Heads(model.heads, model.kv_heads, dim, dim**-0.5, dim)
    layout = decoding(demand.rows, demand.context)
    table = rope_table_reference(layout.positions, mx.ones((dim // 2,)), 1.0)
    count = demand.rows * layout.tables.shape[1] + 1
    pool, fence = _pages(arrays, count), mx.zeros((FENCE,), demand.dtype)
    mx.eval(table.cos, table.sin, fence)
    start = (demand.context - 1) // PAGE * PAGE
    starts = mx.full((demand.rows,), start, mx.int32)
    tail = Tail(_pages(arrays, demand.rows * TAIL_PAGES), starts)
    mx.eval(starts)
    one = _page(demand) // PAGE * demand.rows  # a token of each row
    out = demand.rows * model.heads * model.head_dim * demand.dtype.size
    around = qkv.nbytes + table.cos.nbytes + table.sin.nbytes + out
    read = (demand.context - 1) * one + around
    variants = (
        ("in place", replace(pool, append=Append.IN_PLACE, fence=fence), layout, read + one),
        (
            "tails",
            replace(pool, append=Append.TAIL, tail=tail),
            replace(layout, tails=starts),
            read + (demand.context - start) * one,
        ),
    )
    for name, pages, step_layout, minimum in variants:
        use = f"{demand.context} tokens, {name}"
        yield _workload(use, qkv, heads, table, pages, pool, step_layout, minimum)


def _workload(
    use: str,
    qkv: mx.array,
    heads: Heads,
    table: Table,
    pages: Pages,
    pool: Pages,
    layout: Layout,
    minimum: int,
) -> Workload:
    def call() -> list[mx.array]:
        out, after = attention(qkv, heads, table, pages, layout)
        return [out, *([] if after.tail is None else after.tail.pages.arrays)]

    return Workload(
        "attention",
        use,
        call,
        lambda: [attention_mlx(qkv, heads, table, pool, layout)[0]],
        minimum,
    )


def _page(demand: Demand) -> int:
    model = demand.dimensions
    return page_bytes(model.kv_heads, model.head_dim, model.head_dim, FORMATS[demand.dtype])


def _pages(arrays: Arrays, count: int) -> Pages:
    model = arrays.demand.dimensions
    keys = arrays.normal(count, model.kv_heads, model.head_dim, PAGE)
    return Pages(keys, arrays.normal(count, model.kv_heads, PAGE, model.head_dim))
