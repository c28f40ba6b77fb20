"""Latent attention in C and in MLX's operations against its definition."""

from dataclasses import replace

import mlx.core as mx
import pytest

from bessemer.kernels.attention.latent_attention import (
    latent_attention,
    latent_attention_mlx,
    latent_attention_reference,
)
from bessemer.kernels.attention.pages import Format

from ..arrays import normal
from ..steps import layout_of, stale, tables
from ..tiers import NATIVE, in_library, loaded
from .test_attention import TOLERANCE, heads_of, table_of


@pytest.mark.parametrize("format", [Format.FLOAT32, Format.FLOAT16, Format.INT8, Format.INT4])
@pytest.mark.parametrize(("heads", "dim", "values"), [(16, 576, 512), (3, 72, 40)])
@pytest.mark.parametrize("tier", [*NATIVE, "mlx"])
def test_latent_attention(tier: str, heads: int, dim: int, values: int, format: Format) -> None:
    """One key head whose first values are the value, positions in its last dimensions."""
    attend = latent_attention_mlx if tier == "mlx" else in_library(latent_attention, loaded(tier))
    options = heads_of(heads, 1, dim, values, rope_offset=values, interleaved=True)
    runs = [(2, 1), (45, 1), (71, 30)]
    dealt = tables([context for context, _ in runs])
    results = []
    for by in (attend, latent_attention_reference):
        pages = replace(stale(9, 1, dim, 0, format), values=None)
        for rows in ([1, 44, 41], [1, 1, 30]):
            contexts = [rows[0] + (rows[1] == 1), 44 + (rows[1] == 1), 41 + 30 * (rows[1] == 1)]
            layout = layout_of(list(zip(dealt, contexts, rows, strict=True)))
            count = sum(rows)
            q, latent = normal(count, heads * dim, seed=count), normal(count, dim, seed=count + 1)
            table = table_of(layout, (dim - values) // 2)
            out, pages = by(q, latent, options, table, pages, layout)
            mx.eval(out, pages.arrays)
        results.append(out)
    a, b = results
    assert float(mx.max(mx.abs(a - b))) <= TOLERANCE[format] * float(mx.max(mx.abs(b)))
