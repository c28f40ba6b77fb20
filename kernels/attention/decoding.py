"""Steps one after another, as sequences are decoded: the trial of how kernels append to pages.

A step alone does not show whether a tail, or a page that is written in place, holds what the next
kernel should read; and once a pool has tails no other form can take over.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import mlx.core as mx
import numpy as np

from ..registry import InMetal, Key, Operation
from .attention import FILES, key, layout_of, pool_of, tables_for
from .attention_metal import attention_metal, covers
from .latent_attention import FILES as LATENT_FILES
from .latent_attention_metal import covers as covers_latent
from .latent_attention_metal import latent_attention_metal
from .paged_attention import BY_DEFINITION, BY_MLX, Composition
from .pages import FORMATS, PAGE, Append, Format, Heads, Layout, Pages, flush
from .rope import Table, rope_table

PROMPT = 3  # rows of each sequence in the first step; in the others they decode
STEPS = 7
FLUSH = 7  # the number of the token before which tails' full pages go into the pool
# Tokens before the steps: over a page's end; so many that threadgroups share them.
SHORT, LONG = (26, 2), (26, 70 * PAGE)
Attend = Callable[..., tuple[mx.array, Pages]]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A step's places; `moves` are the pages of tails that are flushed before it."""

    table: Table
    layout: Layout
    moves: Sequence[tuple[int, int, int]]


Arguments = tuple[mx.array, Heads, Pages, Sequence[Step]]


def is_fused(heads: Heads, latent: bool, format: Format, dtype: mx.Dtype, append: Append) -> bool:
    """Return whether kernels append to a layer's pages in this way: no other form knows it."""
    cases = (case(heads, latent, format, dtype, append, before) for before in (SHORT, LONG))
    return decoding.in_metal and all(decoding.is_custom(*each) for each in cases)


def case(
    heads: Heads,
    latent: bool,
    format: Format,
    dtype: mx.Dtype,
    append: Append,
    before: Sequence[int],
) -> Arguments:
    """Make steps of sequences that have so many tokens before them; `latent` as a layer of MLA."""
    tables = tables_for([count + PROMPT + STEPS for count in before])
    values = 0 if latent else heads.value_dim
    pages = pool_of(tables, before, heads, values, format, dtype, append)
    steps = [_step(heads, tables, [range(count, count + PROMPT) for count in before])]
    tails = [(count + PROMPT) // PAGE * PAGE for count in before]
    for number in range(PROMPT, PROMPT + STEPS - 1):
        places = [count + number for count in before]
        starts = tails if number < FLUSH else [place // PAGE * PAGE for place in places]
        steps.append(_decoding(heads, tables, places, tails, starts))
        tails = starts
    keys = heads.kv_heads * (heads.head_dim + values)
    rows = sum(step.layout.positions.size for step in steps)
    x = mx.random.normal((rows, heads.heads * heads.head_dim + keys)).astype(dtype)
    return x, heads, pages, steps


def _step(heads: Heads, tables: np.ndarray, runs: Sequence[range]) -> Step:
    layout, pairs = layout_of(tables, runs), (heads.head_dim - heads.rope_offset) // 2
    return Step(rope_table(layout.positions, mx.ones((pairs,)), 1.0), layout, ())


def _decoding(
    heads: Heads,
    tables: np.ndarray,
    places: Sequence[int],
    tails: Sequence[int],
    starts: Sequence[int],
) -> Step:
    """Lay out a step of one token each, before which tails give up the pages up to their starts."""
    step = _step(heads, tables, [range(place, place + 1) for place in places])
    moves = [
        (row, 0, int(tables[row, tail // PAGE]))
        for row, (tail, start) in enumerate(zip(tails, starts, strict=True))
        if tail < start
    ]
    layout = replace(step.layout, tails=mx.array(list(starts), mx.int32))
    return replace(step, layout=layout, moves=moves)


def _run(
    attend: Attend, latent: Attend, x: mx.array, heads: Heads, pages: Pages, steps: Sequence[Step]
) -> list[mx.array]:
    """Return the steps' outputs; x: their rows, one after another."""
    outs, start, queries = [], 0, heads.heads * heads.head_dim
    for step in steps:
        rows = x[start : (start := start + step.layout.positions.size)]
        pages = flush(pages, step.moves, keep=bool(step.layout.decodes))
        place = (heads, step.table, pages, step.layout)
        if pages.values is None:
            out, pages = latent(*mx.split(rows, [queries], axis=1), *place)
        else:
            out, pages = attend(rows, *place)
        outs.append(out)
    return outs


def _otherwise(
    forms: Composition, x: mx.array, heads: Heads, pages: Pages, steps: Sequence[Step]
) -> list[mx.array]:
    """Return the same by forms that know neither tails nor an order: they replace the pages."""
    pages = replace(pages, append=Append.FUNCTIONAL, fence=None)
    return _run(forms.attention, forms.latent_attention, x, heads, pages, steps)


def _covers(x: mx.array, heads: Heads, pages: Pages, steps: Sequence[Step]) -> bool:
    if pages.values is None:
        return covers_latent(x, heads, steps[0].table, pages)
    return covers(heads, pages.format)


def _key(x: mx.array, heads: Heads, pages: Pages, steps: Sequence[Step]) -> Key:
    return (
        pages.append,
        pages.values is None,
        *key(x, heads, steps[-1].table, pages, steps[-1].layout),
    )


def _edges(dtype: mx.Dtype) -> Iterator[Arguments]:
    """Yield both ways to append, plain and quantized, of heads and of latents."""
    plain, latents = Heads(4, 2, 64, 0.125, 64), Heads(16, 1, 576, 0.1, 512, rope_offset=512)
    for append in (Append.TAIL, Append.IN_PLACE):
        for format in (FORMATS[dtype], Format.INT8, Format.INT4):
            yield case(plain, False, format, dtype, append, SHORT)
        yield case(latents, True, FORMATS[dtype], dtype, append, SHORT)


# x: the rows of all steps, as `attention` takes them; of latents the queries, then the latent.
decoding = Operation(
    "decoding",
    partial(_otherwise, BY_MLX),
    partial(_otherwise, BY_DEFINITION),
    metal=InMetal(
        (*FILES, *LATENT_FILES),
        partial(_run, attention_metal, latent_attention_metal),
        _key,
        _edges,
        takes=_covers,
        results=list,
    ),
)
