"""Attention of prompts on Metal, in the simulator's check mode, against the definition."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.attention.gather_pages import gather_pages
from bessemer.kernels.attention.paged_attention import append, paged_attention_reference
from bessemer.kernels.attention.pages import PAGE, Format, Heads, Pages, Prefill
from bessemer.kernels.attention.prefill_attention import (
    covers,
    prefill_attention,
    prefill_metal,
    prefill_mlx,
)
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching

from ..arrays import normal
from ..metal_cases import Case
from ..steps import layout_of, stale, tables

F, H, B = mx.float32, mx.float16, mx.bfloat16
CHECK = Simulator(SimulatorOptions(mode="check"))
# Against the largest value: keys, values and the result are rounded to the dtype.
TOLERANCE = {F: 1e-5, H: 2e-3, B: 2e-2}


@dataclass(frozen=True, slots=True)
class Kind:
    """Heads over pages, and a run of `rows` that ends at `context`."""

    heads: int
    kv_heads: int
    dim: int
    values: int
    format: Format
    dtype: mx.Dtype
    context: int
    rows: int
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.dim}-{self.values}-{self.format}-{self.rows} of {self.context}"

    def attention(self) -> Heads:
        scale = self.dim**-0.5
        sizes = (self.heads, self.kv_heads, self.dim, scale, self.values)
        return Heads(*sizes, **self.options)

    def pages(self) -> tuple[Pages, list[int]]:
        """Return pages full of NaN but for the sequence's tokens."""
        (table,) = tables([self.context])
        count = len(table) + 1
        pages = stale(count, self.kv_heads, self.dim, self.values, self.format)
        layout = layout_of([(table, self.context, self.context)])
        k = normal(self.context, self.kv_heads, self.dim) * 2
        v = normal(self.context, self.kv_heads, self.values, seed=2)
        appended = append(k, v, pages, layout)
        mx.eval(appended.arrays)
        return appended, table


SINKS = normal(4, seed=5) * 3
KERNEL = [
    Kind(2, 1, 192, 128, Format.FLOAT16, H, 70, 37),
    Kind(2, 2, 256, 256, Format.FLOAT32, F, 45, 20),
    Kind(2, 1, 256, 256, Format.FLOAT16, H, 45, 18, {"softcap": 2.0}),
    Kind(4, 2, 64, 64, Format.BFLOAT16, B, 90, 40, {"window": 33, "sinks": SINKS}),
    Kind(4, 2, 72, 40, Format.INT4, F, 90, 41, {"window": 5}),
    Kind(4, 1, 24, 32, Format.FLOAT32, F, 33, 3, {"softcap": 3.0, "sinks": SINKS, "window": 40}),
    Kind(3, 3, 16, 8, Format.FLOAT32, F, 128, 128),
]
MLX = [
    Kind(4, 2, 64, 64, Format.FLOAT16, H, 90, 40),
    Kind(2, 1, 128, 128, Format.BFLOAT16, B, 64, 64),
    Kind(4, 1, 80, 80, Format.INT4, F, 33, 2),
    Kind(4, 1, 320, 288, Format.INT8, F, 90, 40, {"window": 9, "sinks": SINKS}),
    Kind(4, 1, 264, 264, Format.FLOAT32, F, 40, 20, {"softcap": 2.0, "sinks": SINKS}),
]


def check(kind: Kind, custom: bool) -> None:
    pages, table = kind.pages()
    heads = kind.attention()
    layout = layout_of([(table, kind.context, kind.rows)])
    q = normal(kind.rows, kind.heads, kind.dim, seed=3).astype(kind.dtype)
    run = Prefill(0, kind.rows, kind.context)
    with watching() as launches:
        out = prefill_attention(q, pages, layout.tables[0], run, heads)
        mx.eval(out)
    names = [launch.source.name for launch in launches]
    assert names == ["gather_keys", "gather_values", *(["prefill_attention"] if custom else [])]
    assert out.dtype == kind.dtype
    if kind.rows == 1 and not layout.prefills:
        layout = layout_of([(table, kind.context, 1)])
    oracle = paged_attention_reference(q.astype(F), pages, layout, heads)
    close(out, oracle, TOLERANCE[kind.dtype])


def close(out: mx.array, oracle: mx.array, tolerance: float) -> None:
    a, b = (np.array(x.astype(F)) for x in (out, oracle))
    assert a.shape == b.shape and np.abs(a - b).max() <= tolerance * np.abs(b).max()


@pytest.mark.parametrize("kind", KERNEL, ids=lambda kind: kind.name)
def test_by_the_kernel(kind: Kind) -> None:
    with using(CHECK):
        check(kind, custom=True)


@pytest.mark.parametrize("kind", MLX, ids=lambda kind: kind.name)
def test_by_mlx_over_gathered_pages(kind: Kind) -> None:
    with using(CHECK):
        check(kind, custom=False)


@pytest.mark.long
@pytest.mark.parametrize("format", Format)
@pytest.mark.parametrize("dtype", [F, H, B])
@pytest.mark.parametrize(("dim", "values"), [(192, 128), (256, 256), (96, 96)])
@pytest.mark.parametrize("options", [{}, {"softcap": 2.0}, {"window": 40, "sinks": SINKS}])
def test_all_forms(
    format: Format, dtype: mx.Dtype, dim: int, values: int, options: dict[str, Any]
) -> None:
    with using(CHECK):
        kind = Kind(4, 2, dim, values, format, dtype, 130, 70, options)
        check(kind, custom=dim != 96 or bool(options))


@pytest.mark.parametrize("kind", KERNEL[2:6], ids=lambda kind: kind.name)
def test_a_prompt_in_chunks_is_the_same(kind: Kind) -> None:
    """Rows do not depend on what is appended later, nor on which tile they fall into."""
    pages, table = kind.pages()
    heads, context = kind.attention(), kind.context
    q = normal(context, kind.heads, kind.dim, seed=3).astype(kind.dtype)
    with using(CHECK):
        k, v = gather_pages(pages, mx.array(table, mx.int32), context, heads, kind.dtype)
        oracle = prefill_metal(q, k, v, context, heads)
        parts = [
            prefill_metal(q[start:stop], k, v, stop, heads)
            for start, stop in ((0, 1), (1, 17), (17, context))
        ]
        mlx = prefill_mlx(q, k, v, context, heads)
    close(mx.concatenate(parts), oracle, TOLERANCE[kind.dtype] / 2)
    close(mlx, oracle, TOLERANCE[kind.dtype])


def gather(kind: Kind) -> None:
    """Assert that it gives what was stored, and zeros behind it: nothing that others left there."""
    pages, table = kind.pages()
    heads = kind.attention()
    arrays = gather_pages(pages, mx.array(table, mx.int32), kind.context, heads, F)
    mx.eval(arrays)
    layout = layout_of([(table, kind.context, kind.context)])
    for array, values in zip(arrays, (False, True), strict=True):
        width = kind.values if values else kind.dim
        assert array.shape == (kind.kv_heads, len(table) * PAGE, width)
        assert not np.array(array[:, kind.context :]).any()
        oracle = _stored(kind, pages, layout.tables[0], values)[:, : kind.context]
        close(array[:, : kind.context], oracle, 1e-6)


def _stored(kind: Kind, pages: Pages, table: mx.array, values: bool) -> mx.array:
    """Return the keys or values of a table's pages by hand: (kv_heads, tokens, width)."""
    names = ("values", "value_scales", "value_biases") if values else _KEYS
    codes, scales, biases = (getattr(pages, name) for name in names)
    parts = []
    for part in (codes, scales, biases):
        taken = None if part is None else part[table].swapaxes(1, 0)
        if taken is not None:
            taken = (taken if values else taken.swapaxes(2, 3)).flatten(1, 2)
        parts.append(taken)
    codes, scales, biases = parts
    if scales is None:
        return codes.astype(F)
    groups = []
    for group in range(scales.shape[-1]):
        wide = min(PAGE, (kind.values if values else kind.dim) - group * PAGE)
        first = group * PAGE // (1 if biases is None else 2)
        if biases is None:
            some = codes[..., first : first + wide].astype(F)
        else:
            both = codes[..., first : first + wide // 2]
            some = mx.concatenate([both & 15, both >> 4], axis=-1).astype(F)
        some = some * scales[..., group : group + 1].astype(F)
        groups.append(some if biases is None else some + biases[..., group : group + 1])
    return mx.concatenate(groups, axis=-1)


_KEYS = ("keys", "key_scales", "key_biases")
GATHERED = [
    Kind(2, 2, 72, 40, Format.FLOAT32, F, 33, 0),
    Kind(2, 2, 40, 72, Format.INT8, F, 40, 0),
    Kind(3, 3, 48, 40, Format.INT4, F, 65, 0),
]


@pytest.mark.parametrize("kind", GATHERED, ids=lambda kind: kind.name)
def test_gathering(kind: Kind) -> None:
    with using(CHECK):
        gather(kind)


def test_the_order_of_simdgroups_does_not_matter() -> None:
    with using(Simulator(SimulatorOptions("check", order="reverse"))):
        check(KERNEL[5], custom=True)


def test_what_the_kernel_is_not_for() -> None:
    q = normal(2, 2, 264)
    assert not covers(q, Heads(2, 1, 264, 1.0, 264))
    assert not covers(q, Heads(2, 1, 100, 1.0, 100))
    assert covers(q, Heads(2, 1, 256, 1.0, 256))


def cases() -> list[Case]:
    """Return cases small enough for thousands of mutants."""
    kinds = [KERNEL[5], KERNEL[4], KERNEL[6]]
    return [
        *(Case(k.name, "prefill_attention.metal", partial(check, k, True)) for k in kinds),
        *(Case(kind.name, "gather_pages.metal", partial(gather, kind)) for kind in GATHERED),
    ]
