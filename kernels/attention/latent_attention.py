"""Attention over latents: a row's keys and values are one, for all heads alike (DeepSeek's MLA)."""

from collections.abc import Iterator
from dataclasses import replace

import mlx.core as mx

from ..cpu.library import Function, address, ready
from ..registry import InMetal, Operation, anything, in_c
from .attention import case, is_pending, key
from .attention_c import ATTENTION, run
from .latent_attention_metal import covers, latent_attention_metal
from .paged_attention import BY_DEFINITION, BY_MLX
from .pages import FORMATS, PAGE, Heads, Layout, Pages
from .rope import Table, rope_table

Arguments = tuple[mx.array, mx.array, Heads, Table, Pages, Layout]
FILES = ("latent_attention.metal", "latent_merge.metal", "latent_append.metal")
latent_attention_mlx = BY_MLX.latent_attention
latent_attention_reference = BY_DEFINITION.latent_attention


@in_c("op_attention", ATTENTION, takes=anything)
def _latent_attention_c(
    native: Function,
    q: mx.array,
    latent: mx.array,
    heads: Heads,
    table: Table,
    pages: Pages,
    layout: Layout,
) -> tuple[mx.array, Pages]:
    q, latent = ready(q), ready(latent)
    starts = (address(q), address(latent), None) if q.shape[0] else (0, 0, None)
    strides = (q.shape[1], latent.shape[1])
    return run(native, starts, strides, heads, table, pages, layout)


def _edges(dtype: mx.Dtype) -> Iterator[Arguments]:
    """Yield the first token, a page's last and the next one's first; and parts to join."""
    heads = Heads(16, 1, 576, 0.1, 512, rope_offset=512)
    for contexts in ((1, 32, 33), (33, 1, 9 * PAGE)):
        x, _, _, pages, layout = case(heads, FORMATS[dtype], dtype, contexts)
        rows = x.shape[0]
        table = rope_table(layout.positions, mx.ones((32,)), 1.0)
        q, latent = (mx.random.normal((rows, n * 576)).astype(dtype) for n in (16, 1))
        yield q, latent, heads, table, replace(pages, values=None), layout


# q: (rows, heads * head_dim), latent: (rows, head_dim), whose first value_dim are the value, to
# (rows, heads * value_dim). For pages without values and one key head; `k_norm`, if any, is of the
# new latents' values alone.
latent_attention = Operation(
    "latent_attention",
    latent_attention_mlx,
    latent_attention_reference,
    _latent_attention_c,
    InMetal(
        FILES,
        latent_attention_metal,
        key,
        _edges,
        takes=lambda q, latent, heads, table, pages, layout: covers(q, heads, table, pages),
        results=lambda result: (result[0],),
        decided=is_pending,
    ),
)
