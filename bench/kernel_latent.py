"""Latent attention as a decoding step asks for it, with the layers around it, and a prompt's."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import mlx.core as mx
import numpy as np

from bessemer.bench.workload import Demand, Workload
from bessemer.kernels.attention import latent_attention, latent_attention_composed
from bessemer.kernels.gather_pages import gather_pages
from bessemer.kernels.head_linear import head_linear, head_linear_composed
from bessemer.kernels.pages import (
    FORMATS,
    PAGE,
    TAIL_PAGES,
    TOKEN,
    Heads,
    Layout,
    Pages,
    Prefill,
    Tail,
)
from bessemer.kernels.prefill_attention import prefill_attention, prefill_composed
from bessemer.kernels.rope import Table, rope_table_reference
from bessemer.kernels.weight import Dense, Quantized

FEW = 16  # rows of a step for which these kernels are
PLAIN = 16  # bits from which on weights are floats


def workloads(demand: Demand) -> Iterator[Workload]:
    """Of a prompt its attention, for all models; of a step the rest, for models with latents."""
    if demand.prompt:
        yield _prompt(demand)
    elif demand.dimensions.latent and demand.rows <= FEW:
        yield from _projections(demand)
        yield from _decode(demand)


def _normal(random: np.random.Generator, dtype: mx.Dtype, *shape: int) -> mx.array:
    made = mx.array(random.standard_normal(shape, np.float32)).astype(dtype)
    mx.eval(made)
    return made


def _decode(demand: Demand) -> Iterator[Workload]:
    """Each row one token: in place, and into a pool that stays, beside tails half full.

    minimum: the latents once, q, the new latents, the outputs; in place, a new latent is stored,
    and into tails, all tokens since their start are. Where a context is split, what the splits
    leave for the merge comes on top: an output of theirs is 0.9 of a page of latents.
    """
    of, dtype, rows = demand.dimensions, demand.dtype, demand.rows
    random = np.random.default_rng(0)
    dim, count = of.latent + of.latent_rope, -(-demand.context // PAGE)
    keys = _normal(random, dtype, rows * count + 1, 1, dim, PAGE)
    q, latent = _normal(random, dtype, rows, of.heads * dim), _normal(random, dtype, rows, dim)
    norm = _normal(random, mx.float32, of.latent)
    heads = Heads(
        *(of.heads, 1, dim, (of.head_dim + of.latent_rope) ** -0.5, of.latent),
        k_norm=norm,
        eps=1e-6,
        interleaved=True,
        turned_from=of.latent,
    )
    layout = _layout(rows, demand.context)
    table = rope_table_reference(layout.positions, mx.ones((of.latent_rope // 2,)), 1.0)
    token, start = mx.zeros((TOKEN,)), (demand.context - 1) // PAGE * PAGE
    starts = mx.full((rows,), start, mx.int32)
    tail = Tail(Pages(_normal(random, dtype, rows * TAIL_PAGES, 1, dim, PAGE), None), starts)
    mx.eval(table.cos, table.sin, token, starts)
    around = q.nbytes + latent.nbytes + norm.nbytes + table.cos.nbytes + table.sin.nbytes
    around += rows * of.heads * of.latent * dtype.size
    read, one = rows * (demand.context - 1) * dim * dtype.size, rows * dim * dtype.size
    ways = (
        ("in place", Pages(keys, None, token=token), layout, one),
        (
            "tails",
            Pages(keys, None, tail=tail),
            replace(layout, tails=starts),
            one * (demand.context - start),
        ),
    )
    for name, pages, placed, stored in ways:
        yield Workload(
            "latent_attention",
            f"{demand.context} tokens, {name}",
            partial(_call, q, latent, heads, table, pages, placed),
            partial(_composed, q, latent, heads, table, Pages(keys, None), layout),
            read + around + stored,
        )


def _call(
    q: mx.array, latent: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout
) -> list[mx.array]:
    out, after = latent_attention(q, latent, heads, table, pages, layout)
    return [out, *([] if after.tail is None else after.tail.pages.arrays)]


def _composed(
    q: mx.array, latent: mx.array, heads: Heads, table: Table, pages: Pages, layout: Layout
) -> list[mx.array]:
    return [latent_attention_composed(q, latent, heads, table, pages, layout)[0]]


def _layout(rows: int, context: int) -> Layout:
    count = -(-context // PAGE)
    pages = 1 + np.arange(rows * count, dtype=np.int32).reshape(rows, count)
    last = pages[:, -1] * PAGE + (context - 1) % PAGE
    arrays = [mx.full((rows,), context - 1, mx.int32), mx.array(last.astype(np.int32))]
    arrays += [mx.arange(rows, dtype=mx.int32), mx.array(pages)]
    mx.eval(arrays)
    return Layout(arrays[0], arrays[1], arrays[2], arrays[3], rows, ())


def _projections(demand: Demand) -> Iterator[Workload]:
    of = demand.dimensions
    yield _projection("into the latent space", of.head_dim, of.latent, of.latent_rope, demand)
    yield _projection("out of the latent space", of.latent, of.latent_value, 0, demand)


def _projection(name: str, inputs: int, outputs: int, rest: int, demand: Demand) -> Workload:
    heads, dtype, random = demand.dimensions.heads, demand.dtype, np.random.default_rng(0)
    x = _normal(random, dtype, demand.rows, heads, inputs + rest)
    weight = _weight(heads * outputs, inputs, demand, random)
    stored = [weight.weight]
    if isinstance(weight, Quantized):
        stored += [weight.scales, *([] if weight.biases is None else [weight.biases])]
    size = demand.rows * heads * (outputs + rest) * dtype.size
    return Workload(
        "head_linear",
        name,
        lambda: [head_linear(x, weight, rest)],
        lambda: [head_linear_composed(x, weight, rest)],
        sum(array.nbytes for array in (x, *stored)) + size,
    )


def _weight(
    outputs: int, inputs: int, demand: Demand, random: np.random.Generator
) -> Dense | Quantized:
    if demand.bits >= PLAIN:
        return Dense(_normal(random, demand.dtype, outputs, inputs))
    words = random.integers(0, 1 << 32, (outputs, inputs * demand.bits // 32), np.uint32)
    scales, biases = (
        _normal(random, demand.dtype, outputs, inputs // demand.group) for _ in range(2)
    )
    made = mx.array(words)
    mx.eval(made)
    return Quantized(made, scales, biases, demand.group, demand.bits)


def _prompt(demand: Demand) -> Workload:
    """A prompt's last rows against its whole context; of latents, what they expand to.

    minimum: each key and value once, q, the outputs. The kernels are bound by arithmetic: they
    read keys for every tile of rows.
    """
    of, dtype = demand.dimensions, demand.dtype
    random, context = np.random.default_rng(0), max(demand.context, demand.rows)
    dim, value = of.head_dim + of.latent_rope, of.latent_value or of.head_dim
    kv_heads = of.heads if of.latent else of.kv_heads
    heads = Heads(of.heads, kv_heads, dim, dim**-0.5, value)
    count = -(-context // PAGE)
    pages = Pages(
        _normal(random, dtype, count + 1, kv_heads, dim, PAGE),
        _normal(random, dtype, count + 1, kv_heads, PAGE, value),
    )
    assert pages.format is FORMATS[dtype]
    q = _normal(random, dtype, demand.rows, of.heads, dim)
    table = mx.arange(1, count + 1, dtype=mx.int32)
    mx.eval(table)

    def composed() -> list[mx.array]:
        k, v = gather_pages(pages, table, context, heads, dtype)
        return [prefill_composed(q, k, v, context, heads)]

    return Workload(
        "prefill_attention",
        f"{demand.rows} rows of {context} tokens",
        lambda: [prefill_attention(q, pages, table, Prefill(0, demand.rows, context), heads)],
        composed,
        q.nbytes
        + (context * kv_heads * (dim + value) + demand.rows * of.heads * value) * dtype.size,
    )
