"""Latent attention on Metal, in the simulator's check mode, against its definition."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.attention.latent_attention import (
    latent_attention,
    latent_attention_mlx,
    latent_attention_reference,
)
from bessemer.kernels.attention.latent_attention_metal import SHARE, covers, latent_attention_metal
from bessemer.kernels.attention.pages import (
    FENCE,
    PAGE,
    TAIL_PAGES,
    Append,
    Format,
    Heads,
    Layout,
    Pages,
    flush,
)
from bessemer.kernels.attention.rope import Table, rope_table_reference
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching

from ..arrays import normal
from ..metal_cases import Case
from ..steps import layout_of, stale, tables

F, H, B = mx.float32, mx.float16, mx.bfloat16
CHECK = Simulator(SimulatorOptions(mode="check"))
# Against the largest value: weights and outputs are rounded to the dtype. What is stored of a new
# latent may be rounded to the other side of a tie, here and there.
TOLERANCE = {F: 1e-5, H: 2e-3, B: 1e-2}
TIES = {
    Format.FLOAT32: 0,
    Format.FLOAT16: 1e-3,
    Format.BFLOAT16: 8e-3,
    Format.INT8: 1e-2,
    Format.INT4: 1.5e-1,
}
Way = Literal["replaced", "tails", "in place"]
APPEND = {"replaced": Append.FUNCTIONAL, "tails": Append.TAIL, "in place": Append.IN_PLACE}


@dataclass(frozen=True, slots=True)
class Kind:
    """A case that latent_attention.metal is compiled for."""

    heads: int
    dim: int
    values: int
    format: Format
    dtype: mx.Dtype
    way: Way
    norm: bool = True
    interleaved: bool = True
    rope_pairs: int = -1  # pairs; -1 for all that is no value

    @property
    def name(self) -> str:
        return f"{self.heads}-{self.dim}-{self.format}-{self.way}"

    def attention(self) -> Heads:
        weight = 1 + normal(self.values, seed=4) / 4 if self.norm else None
        return Heads(
            *(self.heads, 1, self.dim, self.dim**-0.5, self.values),
            k_norm=weight,
            eps=1e-3,
            interleaved=self.interleaved,
            rope_offset=self.values,
        )

    def table(self, layout: Layout) -> Table:
        pairs = (self.dim - self.values) // 2 if self.rope_pairs < 0 else self.rope_pairs
        frequencies = mx.array((0.1 ** np.linspace(0, 3, pairs)).astype(np.float32))
        out = rope_table_reference(layout.positions, frequencies, 1.1)
        mx.eval(out.cos, out.sin)
        return out


KINDS = [
    Kind(16, 576, 512, Format.FLOAT16, H, "tails"),
    Kind(3, 96, 64, Format.FLOAT32, F, "replaced", interleaved=False),
    Kind(9, 96, 32, Format.FLOAT32, F, "tails", rope_pairs=20),
    Kind(20, 128, 64, Format.INT8, H, "tails"),
    Kind(8, 128, 64, Format.INT4, B, "in place", interleaved=False),
    Kind(16, 96, 64, Format.BFLOAT16, B, "in place", interleaved=False),
    Kind(20, 128, 64, Format.INT4, F, "in place", norm=False),
    Kind(4, 128, 128, Format.FLOAT16, F, "in place", rope_pairs=0),
    Kind(2, 64, 32, Format.INT8, F, "in place"),
    Kind(2, 160, 96, Format.INT4, H, "tails", norm=False),
]
BARE = replace(KINDS[1], norm=False)
WAYS: tuple[tuple[Way, bool], ...] = (("replaced", False), ("tails", True), ("in place", True))
MANY = [
    Kind(heads, dim, values, format, dtype, way, norm)
    for heads, dim, values in ((16, 576, 512), (128, 576, 512), (8, 320, 256))
    for format in Format
    for dtype in (F, H, B)
    for way, norm in WAYS
]
BEFORE = (0, 31, 30, 38, PAGE * SHARE + 20, 62)  # tokens of each sequence before the first step


@dataclass
class Past:
    """Sequences whose first tokens were appended by the reference, and both caches since."""

    kind: Kind
    dealt: list[list[int]]
    contexts: list[int]
    pages: Pages
    oracle: Pages

    @classmethod
    def of(cls, kind: Kind, before: Sequence[int], growth: int) -> "Past":
        """growth: tokens that each sequence may grow by."""
        dealt = tables([count + growth for count in before])
        pages = stale(sum(map(len, dealt)) + 1, 1, kind.dim, 0, kind.format)
        pages = replace(pages, values=None)
        runs = [(t, n, n) for t, n in zip(dealt, before, strict=True) if n]
        layout = layout_of(sorted(runs, key=lambda run: run[2] > 1))
        _, pages = latent_attention_reference(*_inputs(kind, layout, 7), pages, layout)
        keys, scales, biases = (
            None if part is None else mx.array(part)
            for part in (pages.keys, pages.key_scales, pages.key_biases)
        )
        assert keys is not None
        fence = mx.zeros((FENCE,)) if kind.way == "in place" else None
        copied = Pages(keys, None, scales, biases, append=APPEND[kind.way], fence=fence)
        mx.eval(pages.arrays, copied.arrays)
        return cls(kind, dealt, list(before), copied, pages)

    def layout(self, rows: Sequence[int]) -> Layout:
        """A step in which sequences grow by so many rows."""
        self.contexts = [n + more for n, more in zip(self.contexts, rows, strict=True)]
        return layout_of(list(zip(self.dealt, self.contexts, rows, strict=True)))

    def check(self, layout: Layout, seed: int, alike: float = 0.995) -> None:
        inputs = _inputs(self.kind, layout, seed)
        assert covers(inputs[0], *inputs[2:], self.pages)
        out, self.pages = latent_attention(*inputs, self.pages, layout)
        mx.eval(out, self.pages.arrays)
        oracle, self.oracle = latent_attention_reference(*inputs, self.oracle, layout)
        close(out, oracle, self.kind, alike)

    def check_elsewhere(self, layout: Layout) -> None:
        """Check the C kernel, where there is one, or else MLX's operations."""
        inputs = _inputs(self.kind, layout, 20)
        oracle, _ = latent_attention_reference(*inputs, self.oracle, layout)
        mx.eval(oracle)
        for attend in (latent_attention_mlx, latent_attention):
            out, _ = attend(*inputs, self.pages, layout)
            close(out, oracle, self.kind)

    def check_stored(self) -> None:
        """Assert that the pools hold the same of each sequence, but for codes on a tie."""
        for out, oracle in zip(self.pages.parts, self.oracle.parts, strict=True):
            if out is None or oracle is None:
                assert out is oracle
                continue
            for table, context in zip(self.dealt, self.contexts, strict=True):
                a, b = (
                    np.array(x[mx.array(table)].swapaxes(1, 3).astype(mx.float32))
                    for x in (out, oracle)
                )
                a, b = (x.reshape(-1, x.shape[-1] * x.shape[-2])[:context] for x in (a, b))
                coarse = max(np.abs(b).max() * 2e-2, 1 if out.dtype in (mx.int8,) else 0)
                assert (np.abs(a - b) <= coarse).mean() > 0.99


def _inputs(kind: Kind, layout: Layout, seed: int) -> tuple[mx.array, mx.array, Heads, Table]:
    rows = layout.positions.shape[0]
    q = normal(rows, kind.heads * kind.dim, seed=seed).astype(kind.dtype)
    latent = (normal(rows, kind.dim, seed=seed + 1) * 1.5).astype(kind.dtype)
    return q, latent, kind.attention(), kind.table(layout)


def close(out: mx.array, oracle: mx.array, kind: Kind, alike: float = 0.995) -> None:
    """`alike`: the part that no tie has changed, at least."""
    assert out.dtype == kind.dtype and out.shape == oracle.shape
    a, b = (np.array(x.astype(mx.float32)) for x in (out, oracle))
    error = np.abs(a - b) / np.abs(b).max()
    assert (error <= TOLERANCE[kind.dtype]).mean() > alike
    assert error.max() <= max(TOLERANCE[kind.dtype], TIES[kind.format])


def decode(
    kind: Kind, before: Sequence[int] = BEFORE, steps: int = 3, alike: float = 0.995
) -> None:
    """Steps of one token a sequence; tails go on, and begin anew after what has been flushed."""
    past = Past.of(kind, before, steps)
    starts = [_start(n, steps) if row % 2 else n // PAGE * PAGE for row, n in enumerate(before)]
    for step in range(steps):
        layout = past.layout([1] * len(before))
        if kind.way == "tails":
            if step == steps - 1:
                past.pages = flushed(past, starts)
            layout = replace(layout, tails=mx.array(starts, mx.int32))
        past.check(layout, 20 + step, alike)
    if kind.way != "tails":
        past.check_stored()


def _start(before: int, steps: int) -> int:
    """Return the earliest start for which a tail is full, or nearly, when the last step comes."""
    return max(0, -(-(before + steps - 1) // PAGE) - TAIL_PAGES) * PAGE


def flushed(past: Past, starts: list[int]) -> Pages:
    """Brings full pages of tails into the pool; the tails begin after them from now on."""
    moves = []
    for row, (start, context) in enumerate(zip(starts, past.contexts, strict=True)):
        for part in range((context - 1 - start) // PAGE):
            assert part < TAIL_PAGES
            moves.append((row, part, past.dealt[row][start // PAGE + part]))
            starts[row] += PAGE
    assert moves
    return flush(past.pages, moves, keep=True)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_decoding(kind: Kind) -> None:
    with using(CHECK):
        decode(kind)


@pytest.mark.long
@pytest.mark.parametrize("kind", MANY, ids=lambda kind: f"{kind.name}-{kind.dtype}")
def test_decoding_in_all_forms(kind: Kind) -> None:
    with using(CHECK):
        decode(kind, (0, 31, 70), 3, alike=0.8)  # a scale on a tie changes 32 dimensions


@pytest.mark.parametrize("kind", [KINDS[1], KINDS[6]], ids=lambda kind: kind.name)
def test_a_prompt_beside_streams(kind: Kind) -> None:
    """Rows of prompts are appended with the others', and attend by the kernels for prompts."""
    with using(CHECK):
        past = Past.of(kind, [40, 0, 45], 40)
        past.check(past.layout([1, 20, 30]), 20)
        past.check(past.layout([1, 1, 3]), 21)
        past.check_stored()


def test_in_place_it_is_the_pool_that_is_written() -> None:
    """The step returns the pool that it was called with, and a new fence."""
    kind = KINDS[5]
    past = Past.of(kind, BEFORE, 1)
    pages = past.pages
    with using(CHECK):
        past.check(past.layout([1] * len(BEFORE)), 20)
    assert past.pages.keys is pages.keys and past.pages.fence is not pages.fence


@pytest.mark.parametrize("width", [1, SHARE, SHARE + 1])
def test_splits_join(width: int) -> None:
    """One split needs no merge; two do; a split without tokens counts for nothing."""
    kind = BARE
    past = Past.of(kind, [PAGE * width - 1, 3], 1)
    with using(CHECK), watching() as launches:
        past.check(past.layout([1, 1]), 20)
    _, *names = (launch.source.name for launch in launches)  # positions are applied first
    assert names == ["latent_attention", *(["latent_merge"] if width > SHARE else [])]


@pytest.mark.parametrize("pages", [17, 33])
def test_large_chips_share_latents_out_further(pages: int) -> None:
    """Several threads share a value's splits; of those that have no page, too."""
    past = Past.of(BARE, [PAGE * pages - 1, 3], 1)
    with using(Simulator(SimulatorOptions(mode="check"), 640)), watching() as launches:
        past.check(past.layout([1, 1]), 20)
    assert launches[2].threadgroup[1] == -(-pages // SHARE // 8)


def dead(kind: Kind, width: int) -> None:
    """A row at position -1, beside one of another sequence."""
    pages = replace(stale(2, 1, kind.dim, 0, kind.format), values=None)
    positions = mx.array([-1, 0], mx.int32)
    tables = mx.array([[0] * width, [1] * width], mx.int32)
    layout = Layout(positions, mx.array([0, PAGE], mx.int32), positions + 1, tables, 2, ())
    inputs = _inputs(kind, layout, 3)
    out, _ = latent_attention_metal(*inputs, pages, layout)
    value = inputs[1][1, : kind.values].astype(F)
    assert float(mx.max(mx.abs(out[0]))) == 0
    close(out[1:], mx.tile(value, kind.heads)[None], kind)


@pytest.mark.parametrize("width", [1, SHARE + 1])
def test_a_row_before_the_beginning_sees_nothing(width: int) -> None:
    with using(CHECK):
        dead(BARE, width)


def test_a_broken_latent_shows() -> None:
    kind = KINDS[1]
    past = Past.of(kind, [3, 4], 1)
    layout = past.layout([1, 1])
    q, latent, heads, table = _inputs(kind, layout, 20)
    latent[1, 5] = float("nan")
    with using(CHECK):
        out, _ = latent_attention_metal(q, latent, heads, table, past.pages, layout)
    values = np.array(out)
    assert np.isfinite(values[0]).all() and np.isnan(values[1]).any()


@pytest.mark.parametrize(
    "options",
    [SimulatorOptions("check", contract=True), SimulatorOptions("check", order="reverse")],
)
def test_neither_contraction_nor_order_matters(options: SimulatorOptions) -> None:
    with using(Simulator(options)):
        decode(KINDS[2])


def test_other_attention_is_left_to_the_composition() -> None:
    kind = KINDS[1]
    heads, (q, _, _, table) = kind.attention(), _inputs(kind, layout_of([([1], 1, 1)]), 1)
    pages = replace(stale(2, 1, kind.dim, 0, kind.format), values=None)
    assert covers(q, heads, table, pages)
    for other in (
        replace(heads, window=4),
        replace(heads, softcap=2.0),
        replace(heads, sinks=normal(3)),
        replace(heads, q_norm=normal(kind.dim)),
        replace(heads, head_dim=80),
        replace(heads, kv_heads=3),
        replace(heads, k_norm=normal(kind.values), rope_offset=8),
        replace(heads, interleaved=True, rope_offset=63),
    ):
        assert not covers(q, other, table, pages)
    assert not covers(q[:0], heads, table, pages)


def test_a_norm_on_a_cpu() -> None:
    """The other implementations normalize latents too."""
    kind = KINDS[1]
    past = Past.of(kind, [3, 40], 1)
    past.check_elsewhere(past.layout([1, 1]))


def cases() -> list[Case]:
    """Return cases small enough for thousands of mutants."""
    file = "latent_attention.metal"
    kinds = [KINDS[2], KINDS[3], KINDS[4], KINDS[5], KINDS[7]]
    plain = Kind(20, 96, 64, Format.FLOAT32, F, "in place", interleaved=False, rope_pairs=12)
    return [
        *(Case(f"decode {kind.name}", file, partial(decode, kind)) for kind in kinds),
        Case(f"decode {KINDS[9].name}", file, partial(decode, KINDS[9], (31, 62))),
        Case("nobody", file, partial(dead, BARE, SHARE + 1)),
        Case("splits", "latent_merge.metal", partial(decode, KINDS[1], steps=1)),
        Case("nothing to merge", "latent_merge.metal", partial(dead, BARE, SHARE + 1)),
        *(
            Case(f"append {kind.name}", "latent_append.metal", partial(decode, kind, (3, 31), 2))
            for kind in (KINDS[6], replace(KINDS[8], heads=20), plain)
        ),
    ]
