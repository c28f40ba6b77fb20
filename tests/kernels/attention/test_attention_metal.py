"""Decoding attention on Metal, in the simulator's check mode, against the definition."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from typing import Any, Literal

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.attention.attention import attention, attention_reference
from bessemer.kernels.attention.attention_metal import (
    IN_PLACE,
    THREADS,
    _plan,
    attention_metal,
    covers,
)
from bessemer.kernels.attention.paged_attention import append, gathered
from bessemer.kernels.attention.pages import (
    FENCE,
    PAGE,
    TAIL_PAGES,
    Append,
    Format,
    Heads,
    Layout,
    Pages,
    Tail,
    flush,
    pages_of,
    zeros,
)
from bessemer.kernels.attention.rope import Table, rope_table_reference
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import kernel, padded, scalar, watching
from bessemer.kernels.metal.occupancy import busy

from ..arrays import normal
from ..metal_cases import Case
from ..steps import layout_of, stale, tables

F, H, B = mx.float32, mx.float16, mx.bfloat16
# Against the largest value: sums in float32, then one rounding to the dtype, of a split's too.
TOLERANCE = {F: 5e-6, H: 1e-3, B: 8e-3}
# What is stored, against the reference's: a rounding of the pages' format.
STORED = {
    Format.FLOAT32: 1e-6,
    Format.FLOAT16: 1e-3,
    Format.BFLOAT16: 8e-3,
    Format.INT8: 1e-2,
    Format.INT4: 8e-2,
}
CHECK = Simulator(SimulatorOptions(mode="check"))
Way = Literal["replaced", "tail", "in place"]


@dataclass(frozen=True, slots=True)
class Sample:
    """Sequences of these lengths, of which each is about to get its last token."""

    heads: Heads
    format: Format
    dtype: mx.Dtype
    way: Way
    contexts: tuple[int, ...]
    pairs: int | None = None
    splits: int = 1
    tailed: bool = False  # the step before left tails, too

    @property
    def name(self) -> str:
        h = self.heads
        shape = f"{h.heads}/{h.kv_heads}x{h.head_dim}x{h.value_dim}"
        return f"{shape} {self.format} {str(self.dtype)[9:]} {self.way} {self.splits}"


def heads_of(heads: int, kv_heads: int, dim: int, value_dim: int = 0, **more: Any) -> Heads:
    return Heads(heads, kv_heads, dim, 1.5 * dim**-0.5, value_dim or dim, **more)


def width(heads: Heads) -> int:
    return (heads.heads + heads.kv_heads) * heads.head_dim + heads.kv_heads * heads.value_dim


def norms(dim: int) -> dict[str, Any]:
    q_norm, k_norm = normal(dim, seed=6), normal(dim, seed=8)
    mx.eval(q_norm, k_norm)
    return {"q_norm": q_norm, "k_norm": k_norm, "eps": 1e-2}


def rope_table_of(layout: Layout, heads: Heads, pairs: int | None) -> Table:
    count = heads.head_dim // 2 if pairs is None else pairs
    frequencies = mx.array((0.1 ** np.linspace(0, 3, count)).astype(np.float32))
    return rope_table_reference(layout.positions, frequencies, 1.1)


def filled(sample: Sample, dealt: Sequence[list[int]]) -> Pages:
    """Return pages with all tokens but each sequence's last, and NaN wherever nothing is."""
    heads = sample.heads
    count = sum(map(len, dealt)) + 1
    pages = stale(count, heads.kv_heads, heads.head_dim, heads.value_dim, sample.format)
    runs = [(t, c - 1, c - 1) for t, c in zip(dealt, sample.contexts, strict=True) if c > 1]
    if not runs:
        return pages
    layout = layout_of(runs)
    rows = layout.positions.shape[0]
    k = normal(rows, heads.kv_heads, heads.head_dim, seed=21)
    v = normal(rows, heads.kv_heads, heads.value_dim, seed=22)
    pages = append(k, v, pages, layout)
    mx.eval(pages.arrays)
    return pages


@dataclass(slots=True)
class Step:
    """One step, for the definition and for the kernel."""

    sample: Sample
    dealt: list[list[int]] = field(init=False)
    layout: Layout = field(init=False)
    table: Table = field(init=False)
    qkv: mx.array = field(init=False)

    def __post_init__(self) -> None:
        sample = self.sample
        self.dealt = tables(sample.contexts)
        runs = zip(self.dealt, sample.contexts, strict=True)
        self.layout = layout_of([(t, c, 1) for t, c in runs])
        self.table = rope_table_of(self.layout, sample.heads, sample.pairs)
        self.qkv = normal(len(sample.contexts), width(sample.heads), seed=3).astype(sample.dtype)

    def oracle(self) -> tuple[mx.array, Pages]:
        pages = filled(self.sample, self.dealt)
        wide = self.qkv.astype(F)
        return attention_reference(wide, self.sample.heads, self.table, pages, self.layout)

    def result(self, device: Simulator) -> tuple[mx.array, Pages]:
        """Return the kernel's result, and pages with everything in the pool."""
        pages, layout = filled(self.sample, self.dealt), self.layout
        if self.sample.way == "tail":
            layout = replace(layout, tails=mx.array(self.starts(), mx.int32))
            pages = replace(pages, append=Append.TAIL)
            pages = self.tailed(pages) if self.sample.tailed else pages
        if self.sample.way == "in place":
            fence = mx.zeros((FENCE,), self.sample.dtype)
            pages = replace(pages, append=Append.IN_PLACE, fence=fence)
        with using(device):
            out, pages = attention_metal(self.qkv, self.sample.heads, self.table, pages, layout)
            mx.eval(out, pages.arrays)
        return out, flush(pages, self.moves(), False)

    def starts(self) -> list[int]:
        """The last page of each sequence and, for every other row, the one before."""
        last = [(c - 1) // PAGE for c in self.sample.contexts]
        return [max(0, p - i % 2) * PAGE for i, p in enumerate(last)]

    def tailed(self, pages: Pages) -> Pages:
        """Move what is not in the pool yet to tails; some of those began a page before."""
        befores = [max(0, start - (i + 1) % 2 * PAGE) for i, start in enumerate(self.starts())]
        held = [
            [*table[before // PAGE :], 0, 0][:TAIL_PAGES]
            for table, before in zip(self.dealt, befores, strict=True)
        ]
        index = mx.array(held).flatten()
        tail = pages_of(None if part is None else part[index] for part in pages.parts)
        gone = mx.array([page for *_, page in self.moves()])
        heads, count = self.sample.heads, pages.keys.shape[0]
        empty = stale(count, heads.kv_heads, heads.head_dim, heads.value_dim, pages.format)
        for part, nothing in zip(pages.arrays, empty.arrays, strict=True):
            part[gone] = nothing[gone]
        mx.eval(pages.arrays, tail.arrays)
        return replace(pages, tail=Tail(tail, mx.array(befores, mx.int32)))

    def moves(self) -> list[tuple[int, int, int]]:
        return [
            (row, part, page)
            for row, (table, start) in enumerate(zip(self.dealt, self.starts(), strict=True))
            for part, page in enumerate(table[start // PAGE :])
        ]

    def stored(self, pages: Pages) -> Iterator[np.ndarray]:
        """Yield what the pages hold of each sequence."""
        for table, context in zip(self.dealt, self.sample.contexts, strict=True):
            for array in gathered(pages, mx.array(table), self.sample.heads, F):
                yield np.array(array[:, :context])


def check(sample: Sample, device: Simulator = CHECK) -> None:
    step = Step(sample)
    a, held = step.result(device)
    b, oracle = step.oracle()
    assert a.dtype == sample.dtype
    assert float(mx.max(mx.abs(a.astype(F) - b))) <= TOLERANCE[a.dtype] * float(mx.max(mx.abs(b)))
    for one, other in zip(step.stored(held), step.stored(oracle), strict=True):
        assert np.abs(one - other).max() <= STORED[sample.format] * np.abs(other).max()


SINKS = mx.array([1.5, -2.0, 0.5, 1.0, 3.0, 0.0, 2.0, -1.0, 1.0])
mx.eval(SINKS)
SHORT = (1, 32, 33, 75)
SPLIT = (300, 1, 140)

# Each format with each way and, with that, each dtype; the shapes in turns.
SAMPLES = [
    Sample(heads_of(8, 2, 64), Format.FLOAT16, H, "tail", SPLIT, splits=2, tailed=True),
    Sample(heads_of(4, 2, 128, **norms(128)), Format.FLOAT16, B, "replaced", SPLIT, splits=2),
    Sample(heads_of(16, 1, 64, window=40), Format.FLOAT16, F, "in place", SHORT),
    Sample(heads_of(8, 1, 128, softcap=2.0, window=5), Format.BFLOAT16, B, "tail", SHORT),
    Sample(heads_of(3, 1, 80, interleaved=True), Format.BFLOAT16, F, "replaced", SHORT),
    Sample(heads_of(4, 2, 192), Format.BFLOAT16, H, "in place", (65, 64, 2), 8),
    Sample(
        heads_of(5, 1, 256, sinks=SINKS[:5], q_norm=normal(256, seed=9), eps=1e-2),
        Format.FLOAT32,
        F,
        "tail",
        SHORT,
        tailed=True,
    ),
    Sample(heads_of(2, 2, 96, window=33), Format.FLOAT32, H, "replaced", SHORT, 0),
    Sample(heads_of(9, 1, 20, 12, sinks=SINKS), Format.FLOAT32, B, "in place", (700, 2), splits=2),
    Sample(heads_of(4, 2, 64, **norms(64), window=5), Format.INT8, H, "tail", SHORT, tailed=True),
    Sample(heads_of(2, 1, 72, 40, rope_offset=8), Format.INT8, F, "replaced", SHORT, 10),
    Sample(heads_of(2, 1, 40, 136), Format.INT8, B, "in place", SPLIT, splits=2),
    Sample(
        heads_of(2, 1, 72, 40, interleaved=True),
        Format.INT4,
        F,
        "tail",
        (1, 41, 64, 33),
        12,
        1,
        True,
    ),
    Sample(heads_of(2, 2, 32, 16), Format.INT4, B, "replaced", SHORT),
    Sample(heads_of(4, 1, 128, 64, **norms(128)), Format.INT4, H, "in place", (600,), splits=1),
]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_against_the_definition(sample: Sample) -> None:
    with watching() as launches:
        check(sample)
    names = [launch.source.name for launch in launches]
    assert ("attention_merge" in names) == (sample.splits > 1)


@pytest.mark.parametrize(
    "options",
    [
        SimulatorOptions(mode="check", contract=True),
        SimulatorOptions(mode="check", order="reverse"),
    ],
    ids=["contracted", "reversed"],
)
@pytest.mark.parametrize("number", [0, -1])
def test_whatever_the_compiler_and_the_order(options: SimulatorOptions, number: int) -> None:
    check(SAMPLES[number], Simulator(options))


# Pages of which some splits have one, others none; more splits than a simdgroup merges at once;
# values beyond one chunk of 128, and no page for many splits.
MANY_SPLITS = [
    (Sample(heads_of(2, 1, 32, sinks=SINKS[:2]), Format.FLOAT32, F, "tail", (9 * PAGE, 5)), 1280),
    (Sample(heads_of(4, 2, 32, **norms(32)), Format.FLOAT16, H, "in place", (1234, 1, 33)), 40),
    (Sample(heads_of(1, 1, 32, 192), Format.FLOAT32, F, "replaced", (4600, 2)), 80),
    (Sample(heads_of(2, 1, 32, 16), Format.INT8, B, "tail", (8500,)), 160),
]


@pytest.mark.parametrize(("sample", "cores"), MANY_SPLITS, ids=lambda value: str(value)[:4])
def test_large_chips_share_a_context_out_further(sample: Sample, cores: int) -> None:
    with watching() as launches:
        check(sample, Simulator(SimulatorOptions(mode="check"), cores))
    *_, attended, merged = launches  # after the positions of keys
    splits = attended.grid[0] // THREADS
    assert splits > 1 and splits * prod(attended.grid[1:]) <= 256 * cores // 40
    assert merged.threadgroup[0] == 32 * min(8, -(-splits // 8))


def test_two_key_heads_of_a_long_context_fill_the_largest_chip() -> None:
    """Four simdgroups a threadgroup, some 14 a core for memory to be busy (occupancy.py)."""
    for group, most in ((8, 256), (4, 512)):
        heads = heads_of(2 * group, 2, 128)
        with using(Simulator(cores=80)):
            enough = busy("attention")
        plan = _plan(IN_PLACE, heads, Format.FLOAT16, H, 1, 1024, 64, enough)
        assert prod(plan.attend.arguments["grid"]) // THREADS == most >= 80 * 12 // 4


@pytest.mark.parametrize("splits", [1, 2, 8, 9, 31, 32, 33, 64, 257])
@pytest.mark.parametrize("dim", [20, 64, 256])
def test_parts_of_any_number_are_merged(splits: int, dim: int) -> None:
    """By NumPy, in double precision; every other part has seen nothing, one head none at all."""
    merged(splits, dim)


def merged(splits: int, dim: int) -> None:
    random = np.random.default_rng(splits)
    parts = random.normal(size=(2, 2, splits, dim + 4)).astype(np.float32)
    tops, totals = parts[..., dim], parts[..., dim + 1]
    tops *= 9
    tops[0] = np.sort(tops[0], axis=-1)  # the last ones outweigh all before
    totals[:] = np.abs(totals) + 1
    for unseen in (parts[:, :, 1::2], parts[1:, 1:]):
        unseen[..., dim], unseen[..., :dim], unseen[..., dim + 1] = -3e38, 0, 0
    for sink in (0, 1):
        layer = np.array([9.0, 2.5, -1.0], np.float32)
        threads = 32 * min(8, -(-splits // 8))
        with using(CHECK):
            (out,) = kernel("attention_merge")(
                [padded(mx.array(each)) for each in (parts, layer)] + [scalar(sink, mx.int32)],
                [((2, 2 * dim), F)],
                (threads, 2, 2),
                (threads, 1, 1),
                T=F,
                V=dim,
            )
        weights = np.exp2(tops.astype(float) * (tops > -1e38) - 40) * totals
        own = np.exp(layer[1:].astype(float)) * 2.0**-40 if sink else 0.0
        all = weights.sum(-1) + own
        values = (weights[..., None] * parts[..., :dim]).sum(2) / np.where(all, all, 1)[..., None]
        assert np.abs(np.array(out).reshape(2, 2, dim) - values).max() < 2e-6


def launched(
    heads: Heads, layout: Layout, pages: Pages, qkv: mx.array, pairs: int = 0
) -> tuple[mx.array, Pages]:
    with using(CHECK):
        return attention_metal(qkv, heads, rope_table_of(layout, heads, pairs), pages, layout)


def nobody(sinks: mx.array | None, max_pages: int = 1) -> None:
    """A row at position -1 beside another; with tables of 8 pages, in two splits."""
    heads = heads_of(2, 1, 32, sinks=sinks)
    tables = [[1] + [0] * (max_pages - 1), [0] * max_pages]
    layout = layout_of([(table, context, 1) for table, context in zip(tables, (3, 1), strict=True)])
    layout = replace(layout, positions=mx.array([2, -1], mx.int32))
    layout = replace(layout, tails=mx.zeros((2,), mx.int32))
    pages = zeros(2, 1, 32, 32, Format.FLOAT32, Append.TAIL)
    out, after = launched(heads, layout, pages, normal(2, width(heads)))
    assert after.tail is not None
    assert float(mx.max(mx.abs(out[1]))) == 0 and float(mx.max(mx.abs(out[0]))) > 0


@pytest.mark.parametrize("max_pages", [1, 8])
@pytest.mark.parametrize("sinks", [None, SINKS[:2]])
def test_a_row_before_the_beginning_sees_nothing(sinks: mx.array | None, max_pages: int) -> None:
    """An empty place of a step may be such a row."""
    nobody(sinks, max_pages)


def broken_head(dim: int, format: Format) -> None:
    """Its neighbour must not read past its own end, not even to multiply by zero."""
    heads = heads_of(2, 1, dim)
    qkv = normal(1, width(heads))
    qkv[:, dim : 2 * dim] = float("nan")
    pages = zeros(2, 1, dim, dim, format, Append.IN_PLACE)
    mx.eval(pages.arrays)
    out, _ = launched(heads, layout_of([([1], 1, 1)]), pages, qkv)
    assert bool(mx.all(mx.isfinite(out[:, :dim]))) and bool(mx.all(mx.isnan(out[:, dim:])))


@pytest.mark.parametrize(("dim", "format"), [(20, Format.FLOAT32), (40, Format.INT8)])
def test_a_head_of_nan_is_alone_with_it(dim: int, format: Format) -> None:
    broken_head(dim, format)


def test_a_row_of_nan_is_alone_with_it() -> None:
    heads = heads_of(2, 1, 32)
    layout = layout_of([([1], 9, 1), ([2], 5, 1)])
    qkv = mx.concatenate([normal(1, width(heads)), mx.full((1, width(heads)), float("nan"))])
    pages = zeros(3, 1, 32, 32, Format.FLOAT32, Append.IN_PLACE)
    mx.eval(pages.arrays)
    out, after = launched(heads, layout, pages, qkv)
    assert after.fence is not pages.fence and after.keys is pages.keys
    assert bool(mx.all(mx.isfinite(out[0]))) and bool(mx.all(mx.isnan(out[1])))


def test_a_step_of_nobody() -> None:
    heads = heads_of(2, 1, 32)
    empty = mx.zeros((0,), mx.int32)
    layout = Layout(empty, empty, empty, mx.zeros((0, 1), mx.int32), 0, ())
    pages = zeros(2, 1, 32, 32, Format.FLOAT32)
    out, after = launched(heads, layout, pages, mx.zeros((0, width(heads)), H))
    assert out.shape == (0, 64) and out.dtype == H and after is pages


def test_heads_of_other_widths_are_left_to_mlx() -> None:
    heads = heads_of(2, 1, 36)
    assert covers(heads, Format.INT8)
    assert not covers(heads, Format.INT4)
    heads = heads_of(2, 1, 30)
    layout, qkv = layout_of([([1], 1, 1)]), normal(1, width(heads))
    pages = zeros(2, 1, 30, 30, Format.FLOAT32)
    with using(CHECK), watching() as launches:
        out, _ = attention(qkv, heads, rope_table_of(layout, heads, 0), pages, layout)
    assert not launches
    assert float(mx.max(mx.abs(out - mx.concatenate([qkv[:, -30:]] * 2, axis=1)))) < 1e-6


MIXED = [(33, 1), (1, 1), (75, 2), (40, 9)]


def mixed(format: Format, way: Way, dim: int = 72, value_dim: int = 40) -> None:
    """Prompts beside decoding rows, twice, so that the second step reads what the first left."""
    weights = {"q_norm": mx.ones(dim) * 1.5, "k_norm": mx.ones(dim)}
    heads = heads_of(4, 2, dim, value_dim, **weights, eps=1e-3)
    tables = [[3, 7], [1], [2, 5, 8], [4, 6]]
    first = layout_of([(tables[0], 32, 32), (tables[2], 73, 73), (tables[3], 31, 31)])
    layout = layout_of([(table, *run) for table, run in zip(tables, MIXED, strict=True)])
    past, qkv = normal(136, width(heads), seed=4), normal(13, width(heads), seed=5)
    rope_table = rope_table_of(layout, heads, 8)
    outs = []
    for metal in (True, False):
        pages = stale(9, 2, dim, value_dim, format)
        _, pages = attention_reference(past, heads, rope_table_of(first, heads, 8), pages, first)
        mx.eval(pages.arrays)
        if not metal:
            out, pages = attention_reference(qkv, heads, rope_table, pages, layout)
            outs.append(out)
            continue
        if way == "in place":
            pages = replace(pages, append=Append.IN_PLACE, fence=mx.zeros((FENCE,)))
        for _ in range(2):
            with using(CHECK):
                out, pages = attention(qkv, heads, rope_table, pages, layout)
            outs.append(out)
    largest = float(mx.max(mx.abs(outs[-1])))
    assert all(float(mx.max(mx.abs(out - outs[-1]))) <= 2e-3 * largest for out in outs)


@pytest.mark.parametrize("way", ["replaced", "in place"])
@pytest.mark.parametrize("format", [Format.FLOAT16, Format.INT8, Format.INT4])
def test_prompts_beside_decoding_rows(way: Way, format: Format) -> None:
    mixed(format, way)


def test_prompts_of_whole_groups() -> None:
    mixed(Format.INT4, "in place", 64, 32)


@pytest.mark.long
@pytest.mark.parametrize("format", Format)
@pytest.mark.parametrize("group", range(1, 17))
@pytest.mark.parametrize("dim", [64, 80, 96, 128, 192, 256])
def test_all_shapes(format: Format, group: int, dim: int) -> None:
    """Ways and dtypes take turns from shape to shape."""
    number = group + dim // 16 + list(Format).index(format)
    way: Way = ("replaced", "tail", "in place")[number % 3]  # type: ignore[assignment]
    dtype = (F, H, B)[number // 3 % 3]
    check(Sample(heads_of(2 * group, 2, dim), format, dtype, way, SHORT))


def cases() -> list[Case]:
    """Each kernel over pages of its kinds, short of what costs much to run."""
    out = [
        Case(
            sample.name,
            "attention_quantized.metal" if "INT" in sample.format.name else "attention.metal",
            partial(check, sample),
        )
        for sample in SAMPLES
    ]
    out += [
        Case(sample.name, "attention_merge.metal", partial(check, sample))
        for sample in SAMPLES
        if sample.splits > 1
    ]
    out += [
        Case("a broken head", "attention.metal", partial(broken_head, 20, Format.FLOAT32)),
        Case("a broken head", "attention_quantized.metal", partial(broken_head, 40, Format.INT8)),
        Case("nobody", "attention_merge.metal", partial(nobody, None, 8)),
        *(Case(f"{n} parts", "attention_merge.metal", partial(merged, n, 20)) for n in (9, 257)),
    ]
    appended = (Format.FLOAT16, Format.INT8, Format.INT4)
    out += [
        Case(f"prompts {format}", "append_pages.metal", partial(mixed, format, "in place"))
        for format in appended
    ]
    whole_groups = partial(mixed, Format.INT4, "in place", 64, 32)
    return [*out, Case("prompts of whole groups", "append_pages.metal", whole_groups)]
