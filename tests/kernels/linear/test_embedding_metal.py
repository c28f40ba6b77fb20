"""Rows of an embedding on Metal, in the simulator's check mode, against the definition."""

from dataclasses import dataclass
from functools import partial

import mlx.core as mx
import pytest

from bessemer.kernels.linear.embedding import covers, embedding, embedding_reference
from bessemer.kernels.linear.weight import Quantized, Weight
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching

from ..arrays import close, coded, dense, normal
from ..metal_cases import Case

F, H, B = mx.float32, mx.float16, mx.bfloat16
CHECK = Simulator(SimulatorOptions(mode="check"))
TOLERANCE = {F: 1e-6, H: 5e-4, B: 4e-3}  # one rounding to the dtype
ROWS = 11
FEW, MANY = [3, -1, 0], [10, 3, 3, 0, -11, 7, 9, 1, 2]


@dataclass(frozen=True, slots=True)
class Kind:
    """A case that embedding.metal is compiled for."""

    form: int | str
    group: int
    stored: mx.Dtype
    width: int
    dtype: mx.Dtype

    @property
    def name(self) -> str:
        return f"{self.form}-{self.group}-{self.width}"

    def weight(self) -> Weight:
        return coded(self.form, ROWS, self.width, self.group, self.stored)


KINDS = [
    Kind(4, 64, H, 2176, H),  # more than a threadgroup's
    Kind(8, 32, F, 96, F),
    Kind(6, 128, F, 128, B),
    Kind(5, 32, B, 64, F),
    Kind(3, 32, B, 96, F),
    Kind(2, 64, H, 192, F),
    Kind("mxfp4", 32, H, 160, H),
    *(Kind(form, 16, F, 512, F) for form in ("q2_k", "q3_k", "q6_k")),
    *(Kind(form, 32, H, 512, H) for form in ("q4_k", "q5_k", "iq4_xs", "iq4_nl")),
    *(Kind(form, 32, H, 96, F) for form in ("q4_0", "q5_0", "q8_0")),
]


def check(kind: Kind, tokens: list[int]) -> None:
    weight, ids = kind.weight(), mx.array(tokens, mx.int32)
    with watching() as launches:
        out = embedding(ids, weight, kind.dtype)
        mx.eval(out)
    assert [launch.source.name for launch in launches] == ["embedding"]
    assert out.dtype == kind.dtype
    oracle = embedding_reference(ids, weight, F)
    assert close(out.astype(F), oracle, TOLERANCE[kind.dtype])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_rows(kind: Kind) -> None:
    with using(CHECK):
        for tokens in (FEW, MANY):
            check(kind, tokens)


def test_what_the_kernel_is_not_for() -> None:
    ids, weight = mx.array(FEW, mx.int32), KINDS[1].weight()
    codes, scales, *_ = mx.quantize(normal(ROWS, 64), mode="nvfp4")
    nvfp4 = Quantized(codes, scales, None, 16, 4, "nvfp4")
    assert covers(ids, weight, F) and not covers(ids[:0], weight, F)
    assert not any(covers(ids, each, F) for each in (dense(ROWS, 64), nvfp4))
    assert not covers(ids.astype(mx.uint32), weight, F)


def cases() -> list[Case]:
    """Return cases small enough for thousands of mutants."""
    return [
        Case(f"{kind.name} of {len(tokens)}", "embedding.metal", partial(check, kind, tokens))
        for kind, tokens in (
            (KINDS[1], MANY),
            (KINDS[5], FEW),
            *((kind, MANY) for kind in KINDS[6:]),
        )
    ]
