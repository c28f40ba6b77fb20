"""Attention in C and in MLX's operations against its definition, and a row's bits in company."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.attention.attention import (
    attention,
    attention_mlx,
    attention_reference,
)
from bessemer.kernels.attention.pages import Format, Heads, Layout, Pages
from bessemer.kernels.attention.rope import Table, rope_table_reference

from ..arrays import normal, same
from ..steps import layout_of, stale, tables
from ..tiers import NATIVE, in_library, loaded

# Largest difference against the largest value.
TOLERANCE = {
    Format.FLOAT32: 2e-5,
    Format.FLOAT16: 5e-4,
    Format.BFLOAT16: 4e-3,
    Format.INT8: 5e-3,
    Format.INT4: 4e-2,
}
Attend = Callable[[mx.array, Heads, Table, Pages, Layout], tuple[mx.array, Pages]]


@pytest.fixture(params=[*NATIVE, "mlx"])
def attend(request: pytest.FixtureRequest) -> Attend:
    if request.param == "mlx":
        return attention_mlx
    return in_library(attention, loaded(request.param))


def heads_of(heads: int, kv_heads: int, dim: int, value_dim: int = 0, **more: Any) -> Heads:
    values = value_dim or dim
    return Heads(heads, kv_heads, dim, dim**-0.5, values, **more)


def width(heads: Heads) -> int:
    return (heads.heads + heads.kv_heads) * heads.head_dim + heads.kv_heads * heads.value_dim


def table_of(layout: Layout, pairs: int) -> Table:
    frequencies = mx.array((0.1 ** np.linspace(0, 3, pairs)).astype(np.float32))
    table = rope_table_reference(layout.positions, frequencies, 1.1)
    mx.eval(table.cos, table.sin)
    return table


def pairs_of(heads: Heads, pairs: int | None) -> int:
    return heads.head_dim // 2 if pairs is None else pairs


@dataclass
class Past:
    """Sequences whose prompts were appended in one step, by one implementation."""

    heads: Heads
    pages: Pages
    tables: list[list[int]]
    pairs: int

    @classmethod
    def of(
        cls,
        attend: Attend,
        heads: Heads,
        runs: Sequence[tuple[int, int]],
        format: Format = Format.FLOAT32,
        pairs: int | None = None,
    ) -> "Past":
        """runs: (context, rows), of which the rows are still to be appended."""
        dealt = tables([context for context, _ in runs])
        count = sum(map(len, dealt)) + 1
        pages = stale(count, heads.kv_heads, heads.head_dim, heads.value_dim, format)
        befores = [context - rows for context, rows in runs]
        first = [(t, c, c) for t, c in zip(dealt, befores, strict=True) if c]
        past = cls(heads, pages, dealt, pairs_of(heads, pairs))
        layout = layout_of(sorted(first, key=lambda run: run[2] > 1))
        if first:
            past.step(attend, normal(layout.positions.shape[0], width(heads), seed=7), layout)
        return past

    def step(self, attend: Attend, qkv: mx.array, layout: Layout) -> mx.array:
        table = table_of(layout, self.pairs)
        out, self.pages = attend(qkv, self.heads, table, self.pages, layout)
        mx.eval(out, self.pages.arrays)
        return out


def check(
    attend: Attend,
    heads: Heads,
    runs: Sequence[tuple[int, int]],
    format: Format = Format.FLOAT32,
    pairs: int | None = None,
) -> None:
    """runs: (context, rows), single rows first; the past before is the reference's own."""
    past, oracle = (Past.of(by, heads, runs, format, pairs) for by in (attend, attention_reference))
    layout = layout_of([(t, c, r) for t, (c, r) in zip(past.tables, runs, strict=True)])
    qkv = normal(layout.positions.shape[0], width(heads)) * 1.5
    a = past.step(attend, qkv, layout)
    b = oracle.step(attention_reference, qkv, layout)
    error = float(mx.max(mx.abs(a - b))) / float(mx.max(mx.abs(b)))
    assert error <= TOLERANCE[format]


MIXED = [(1, 1), (32, 1), (33, 1), (75, 2), (40, 2)]


@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim"),
    [
        (2, 2, 32),
        (6, 2, 64),
        (4, 1, 72),
        (5, 1, 80),
        (8, 2, 96),
        (16, 1, 128),
        (3, 1, 192),
        (2, 1, 256),
    ],
)
@pytest.mark.parametrize("format", [Format.FLOAT32, Format.FLOAT16])
def test_shapes(attend: Attend, heads: int, kv_heads: int, dim: int, format: Format) -> None:
    check(attend, heads_of(heads, kv_heads, dim), MIXED, format)


@pytest.mark.parametrize("format", Format)
@pytest.mark.parametrize(("dim", "value_dim"), [(64, 64), (72, 40), (128, 80)])
def test_formats(attend: Attend, format: Format, dim: int, value_dim: int) -> None:
    check(attend, heads_of(4, 2, dim, value_dim), [(50, 1), (97, 2)], format)


OPTIONS: dict[str, dict[str, Any]] = {
    "window 1": {"window": 1},
    "window 20": {"window": 20},
    "window 32": {"window": 32},
    "window 33": {"window": 33},
    "window 500": {"window": 500},
    "softcap": {"softcap": 2.0},
    "sinks": {"sinks": normal(4, seed=5) * 3},
    "norms": {"q_norm": normal(64, seed=6), "k_norm": normal(64, seed=8), "eps": 1e-5},
    "interleaved": {"interleaved": True},
    "all": {
        "window": 40,
        "softcap": 3.0,
        "sinks": normal(4, seed=5),
        "q_norm": normal(64, seed=6),
        "eps": 1e-5,
        "interleaved": True,
    },
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(attend: Attend, name: str) -> None:
    heads = heads_of(4, 2, 64, **OPTIONS[name])
    check(attend, heads, MIXED)
    check(attend, heads, [(90, 2)], Format.FLOAT16)


@pytest.mark.parametrize(("pairs", "start"), [(0, 0), (8, 0), (12, 0), (12, 24), (16, 32)])
@pytest.mark.parametrize("interleaved", [False, True])
def test_partial_rotation(attend: Attend, pairs: int, start: int, interleaved: bool) -> None:
    heads = heads_of(2, 1, 64, interleaved=interleaved, rope_offset=start)
    check(attend, heads, [(20, 1), (40, 2)], pairs=pairs)


def test_a_long_context_and_many_rows(attend: Attend) -> None:
    """A chunk of a prompt beside sixteen streams, over many blocks of rows and pages."""
    heads = heads_of(8, 2, 32)
    runs = [*((context, 1) for context in range(1, 300, 19)), (1000, 70)]
    past = Past.of(attend, heads, runs)
    layout = layout_of([(t, c, r) for t, (c, r) in zip(past.tables, runs, strict=True)])
    qkv = normal(layout.positions.shape[0], width(heads))
    a = past.step(attend, qkv, layout)
    b = past.step(attention_reference, qkv, layout)
    assert float(mx.max(mx.abs(a - b))) <= 2e-5 * float(mx.max(mx.abs(b)))


@pytest.mark.parametrize("name", ["window 33", "softcap", "all"])
@pytest.mark.parametrize("format", [Format.FLOAT32, Format.FLOAT16, Format.INT8, Format.INT4])
def test_a_row_is_the_same_bits_alone_in_chunks_and_in_company(
    attend: Attend, name: str, format: Format
) -> None:
    heads, context = heads_of(4, 2, 64, **OPTIONS[name]), 101
    others = [(40, 1), (64, 60), (7, 5)]
    qkv = normal(context, width(heads))

    def feed(sizes: Sequence[int], crowd: bool) -> mx.array:
        """The sequence in steps of these sizes, beside streams and a prompt of others or alone."""
        past = Past.of(attend, heads, [(context, context), *others], format)
        parts, start = [], 0
        for size in sizes:
            stop = start + size
            run = (past.tables[0], stop, size)
            before = [(past.tables[1], 40, 1)] if crowd else []
            after = [(past.tables[2], 64, 60), (past.tables[3], 7, 5)] if crowd else []
            layout = layout_of([*before, run, *after])
            company = normal(66 if crowd else 0, width(heads), seed=9)
            rows = [company[:1], qkv[start:stop], company[1:]]
            out = past.step(attend, mx.concatenate([r for r in rows if r.shape[0]]), layout)
            parts.append(out[len(before) : len(before) + size])
            start = stop
        return mx.concatenate(parts)

    oracle = feed([context], False)
    for sizes in ([1] * context, [13] * 7 + [10], [32, 33, 36], [64, 37]):
        assert same(feed(sizes, False), oracle)
    for sizes in ([context], [50, 51], [97, 1, 1, 1, 1]):
        assert same(feed(sizes, True), oracle)
