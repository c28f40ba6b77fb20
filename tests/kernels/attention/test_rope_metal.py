"""Rotary positions on Metal, in the simulator's check mode, against complex multiplication."""

from dataclasses import dataclass
from functools import partial

import mlx.core as mx
import pytest

from bessemer.kernels.attention.rope import Table, rope, rope_reference, rope_table
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching

from ..arrays import close, normal, same
from ..metal_cases import Case

F, H, B = mx.float32, mx.float16, mx.bfloat16
CHECK = Simulator(SimulatorOptions(mode="check"))
TOLERANCE = {F: 1e-6, H: 5e-4, B: 4e-3}  # one rounding to the dtype


@dataclass(frozen=True, slots=True)
class Kind:
    """A case: heads of `width` of which 2 * pairs dimensions from `start` on rotate."""

    dtype: mx.Dtype
    rows: int
    heads: int
    width: int
    pairs: int
    start: int = 0
    interleaved: bool = False

    def table(self) -> Table:
        frequencies = mx.arange(1, self.pairs + 1) / self.pairs
        return rope_table(mx.arange(self.rows) * 7, frequencies, 1.25)


KINDS = [
    Kind(F, 3, 2, 8, 4),
    Kind(H, 5, 3, 80, 40),
    Kind(B, 2, 1, 40, 8, 16, True),  # the rest before and behind
    Kind(F, 2, 2, 24, 4, 0, True),
    Kind(H, 1, 2, 576, 32, 512),  # latents
    Kind(F, 1, 1, 8, 2, 3),  # a table of fewer numbers than MLX gives memory of their own
]


def check(kind: Kind) -> None:
    x, table = normal(kind.rows, kind.heads, kind.width).astype(kind.dtype), kind.table()
    settings = kind.interleaved, kind.start
    with using(CHECK), watching() as launches:
        out = rope(x, table, *settings)
        mx.eval(out)
    assert [launch.source.name for launch in launches] == ["rope"]
    assert out.dtype == kind.dtype
    oracle = rope_reference(x.astype(F), table, *settings)
    assert close(out.astype(F), oracle, TOLERANCE[kind.dtype])
    end = kind.start + 2 * kind.pairs
    for rest in (slice(0, kind.start), slice(end, kind.width)):
        assert same(out[..., rest].astype(F), x[..., rest].astype(F))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_rows(kind: Kind) -> None:
    check(kind)


def test_what_the_kernel_is_not_for() -> None:
    x, nothing = normal(2, 3, 8), Table(mx.zeros((2, 1, 0)), mx.zeros((2, 1, 0)))
    with using(CHECK), watching() as launches:
        assert same(rope(x, nothing), x)
    assert not launches


def cases() -> list[Case]:
    return [Case(str(kind), "rope.metal", partial(check, kind)) for kind in KINDS[:4]]
