"""Workloads of latent attention in a decoding step, the layers around it, and a prompt's."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import mlx.core as mx
import numpy as np

from bessemer.bench.kernels.workload import Arrays, Demand, Workload, decoding, stored_bytes
from bessemer.kernels.attention.latent_attention import latent_attention, latent_attention_mlx
from bessemer.kernels.attention.pages import (
    FENCE,
    FORMATS,
    PAGE,
    TAIL_PAGES,
    Append,
    Heads,
    Layout,
    Pages,
    Prefill,
    Tail,
)
from bessemer.kernels.attention.prefill_attention import prefill_attention, prefill_mlx
from bessemer.kernels.attention.rope import Table, rope_table_reference
from bessemer.kernels.linear.head_linear import head_linear, head_linear_mlx

FEW = 16  # rows of a step for which these kernels are


def workloads(demand: Demand) -> Iterator[Workload]:
    """Yield a prompt's attention, for all models; a step's workloads for models with latents."""
    if demand.prompt:
        yield _prompt(demand)
    elif demand.dimensions.latent and demand.rows <= FEW:
        yield from _projections(demand)
        yield from _decode(demand)


def _decode(demand: Demand) -> Iterator[Workload]:
    """Yield steps of one token a row: in place, and into a pool beside tails half full.

    minimum: the latents once, q, the new latents, the outputs; in place, a new latent is stored,
    and into tails, all tokens since their start are. Where a context is split, what the splits
    leave for the merge comes on top: an output of theirs is 0.9 of a page of latents.
    """
    model, dtype, rows = demand.dimensions, demand.dtype, demand.rows
    arrays = Arrays(demand, np.random.default_rng(0))
    dim, count = model.latent + model.latent_rope, -(-demand.context // PAGE)
    keys = arrays.normal(rows * count + 1, 1, dim, PAGE)
    q, latent = arrays.normal(rows, model.heads * dim), arrays.normal(rows, dim)
    norm = arrays.normal(model.latent).astype(mx.float32)
    heads = Heads(
        *(model.heads, 1, dim, (model.head_dim + model.latent_rope) ** -0.5, model.latent),
        k_norm=norm,
        eps=1e-6,
        interleaved=True,
        rope_offset=model.latent,
    )
    layout = decoding(rows, demand.context)
    table = rope_table_reference(layout.positions, mx.ones((model.latent_rope // 2,)), 1.0)
    fence, start = mx.zeros((FENCE,)), (demand.context - 1) // PAGE * PAGE
    starts = mx.full((rows,), start, mx.int32)
    tail = Tail(Pages(arrays.normal(rows * TAIL_PAGES, 1, dim, PAGE), None), starts)
    mx.eval(table.cos, table.sin, fence, starts)
    around = q.nbytes + latent.nbytes + norm.nbytes + table.cos.nbytes + table.sin.nbytes
    around += rows * model.heads * model.latent * dtype.size
    read, one = rows * (demand.context - 1) * dim * dtype.size, rows * dim * dtype.size
    variants = (
        ("in place", Pages(keys, None, append=Append.IN_PLACE, fence=fence), layout, one),
        (
            "tails",
            Pages(keys, None, append=Append.TAIL, tail=tail),
            replace(layout, tails=starts),
            one * (demand.context - start),
        ),
    )
    for name, pages, step_layout, stored in variants:
        yield Workload(
            "latent_attention",
            f"{demand.context} tokens, {name}",
            partial(_call, q, latent, heads, table, pages, step_layout),
            partial(_mlx, q, latent, heads, table, Pages(keys, None), layout),
            read + around + stored,
        )


def _call(
    q: mx.array, latent: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout
) -> list[mx.array]:
    out, after = latent_attention(q, latent, heads, table, pages, layout)
    return [out, *([] if after.tail is None else after.tail.pages.arrays)]


def _mlx(
    q: mx.array, latent: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout
) -> list[mx.array]:
    return [latent_attention_mlx(q, latent, heads, table, pages, layout)[0]]


def _projections(demand: Demand) -> Iterator[Workload]:
    model = demand.dimensions
    rope = model.latent_rope
    yield _projection("into the latent space", model.head_dim, model.latent, rope, demand)
    yield _projection("out of the latent space", model.latent, model.latent_value, 0, demand)


def _projection(name: str, inputs: int, outputs: int, rest: int, demand: Demand) -> Workload:
    heads, arrays = demand.dimensions.heads, Arrays(demand, np.random.default_rng(0))
    x = arrays.normal(demand.rows, heads * (inputs + rest))
    weight = arrays.weight(heads * outputs, inputs)
    size = demand.rows * heads * (outputs + rest) * demand.dtype.size
    return Workload(
        "head_linear",
        name,
        lambda: [head_linear(x, weight, heads, rest)],
        lambda: [head_linear_mlx(x, weight, heads, rest)],
        x.nbytes + stored_bytes(weight) + size,
    )


def _prompt(demand: Demand) -> Workload:
    """Return a prompt's last rows against its whole context; latents are expanded.

    minimum: each key and value once, q, the outputs. The kernels are bound by arithmetic: they
    read keys for every tile of rows.
    """
    model, dtype = demand.dimensions, demand.dtype
    arrays = Arrays(demand, np.random.default_rng(0))
    context = max(demand.context, demand.rows)
    dim, value = model.head_dim + model.latent_rope, model.latent_value or model.head_dim
    kv_heads = model.heads if model.latent else model.kv_heads
    heads = Heads(model.heads, kv_heads, dim, dim**-0.5, value)
    count = -(-context // PAGE)
    values = arrays.normal(count + 1, kv_heads, PAGE, value)
    pages = Pages(arrays.normal(count + 1, kv_heads, dim, PAGE), values)
    assert pages.format is FORMATS[dtype]
    q = arrays.normal(demand.rows, model.heads, dim)
    table = mx.arange(1, count + 1, dtype=mx.int32)
    mx.eval(table)

    def mlx() -> list[mx.array]:
        k = pages.keys[table].transpose(1, 0, 3, 2).reshape(kv_heads, -1, dim)
        v = values[table].transpose(1, 0, 2, 3).reshape(kv_heads, -1, value)
        return [prefill_mlx(q, k, v, context, heads)]

    return Workload(
        "prefill_attention",
        f"{demand.rows} rows of {context} tokens",
        lambda: [prefill_attention(q, pages, table, Prefill(0, demand.rows, context), heads)],
        mlx,
        q.nbytes
        + (context * kv_heads * (dim + value) + demand.rows * model.heads * value) * dtype.size,
    )
