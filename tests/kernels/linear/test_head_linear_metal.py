"""Linear layers of heads on Metal, in the simulator's check mode, against the definition."""

from dataclasses import dataclass, replace
from functools import partial

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.linear.head_linear import MAX_ROWS
from bessemer.kernels.linear.weight import Weight
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching

from ..arrays import close, coded, dense, normal, quantized
from ..metal_cases import Case
from .by_heads import covers, head_linear, head_linear_mlx, head_linear_reference

F, H, B = mx.float32, mx.float16, mx.bfloat16
CHECK = Simulator(SimulatorOptions(mode="check"))
# Against the largest value: sums in float32, then one rounding to the dtype.
TOLERANCE = {F: 5e-6, H: 1e-3, B: 6e-3}


@dataclass(frozen=True, slots=True)
class Kind:
    """A case that head_linear.metal is compiled for."""

    form: int | str | mx.Dtype  # bits, a storage, or the dtype of plain numbers
    group: int
    stored: mx.Dtype  # of scales and biases
    heads: int
    inputs: int
    outputs: int
    dtype: mx.Dtype
    rest: int = 0

    @property
    def name(self) -> str:
        return f"{self.form}-{self.group}-{self.heads}x{self.inputs}x{self.outputs}"

    def weight(self) -> Weight:
        rows = self.heads * self.outputs
        if isinstance(self.form, mx.Dtype):
            return dense(rows, self.inputs, self.form)
        return coded(self.form, rows, self.inputs, self.group, self.stored)


KINDS = [
    Kind(4, 64, H, 2, 128, 512, H, 64),  # into the latent space
    Kind(4, 64, B, 2, 512, 128, B),  # and back
    Kind(4, 32, F, 3, 96, 21, F, 4),
    Kind(8, 64, H, 3, 64, 7, F),
    Kind(6, 128, F, 1, 256, 5, H, 12),
    Kind(3, 32, B, 3, 32, 9, F),
    Kind("mxfp4", 32, H, 2, 160, 6, H),
    Kind(F, 0, F, 3, 72, 11, F, 8),
    Kind(H, 0, F, 2, 512, 16, F),
    Kind(2, 64, F, 2, 1024, 3, F),
    Kind(4, 64, H, 1, 512, 12, F),  # fewer outputs than a threadgroup has, two sets a lane
    Kind(F, 0, F, 1, 512, 12, F),
    Kind(8, 64, H, 1, 128, 24, F, 4),
    Kind("q2_k", 16, F, 2, 256, 7, F, 4),
    Kind("q3_k", 16, F, 1, 512, 9, F),
    Kind("q4_k", 32, F, 2, 512, 6, H),
    Kind("q5_k", 32, F, 2, 256, 6, F),
    Kind("q6_k", 16, F, 2, 512, 5, F, 8),
    Kind("iq4_xs", 32, F, 1, 256, 9, F),
    Kind("iq4_nl", 32, H, 2, 160, 6, F),
    Kind("q8_0", 32, H, 3, 96, 6, F),
]


def check(kind: Kind, rows: int) -> None:
    x = normal(rows, kind.heads, kind.inputs + kind.rest).astype(kind.dtype)
    weight = kind.weight()
    assert covers(x, weight, kind.rest)
    with watching() as launches:
        out = head_linear(x, weight, kind.rest)
        mx.eval(out)
    assert [launch.source.name for launch in launches] == ["head_linear"]
    oracle = head_linear_reference(x.astype(F), weight, kind.rest)
    assert out.dtype == kind.dtype
    assert close(out.astype(F), oracle, TOLERANCE[kind.dtype])
    passed = x[..., kind.inputs :].astype(F)
    assert np.array_equal(np.array(out[..., kind.outputs :].astype(F)), np.array(passed))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_rows(kind: Kind) -> None:
    with using(CHECK):
        for rows in (1, 3) if kind.outputs == 512 else (2, MAX_ROWS):
            check(kind, rows)


@pytest.mark.long
@pytest.mark.parametrize("dtype", [F, H, B])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("group", [32, 64, 128])
def test_all_forms(bits: int, group: int, dtype: mx.Dtype) -> None:
    with using(CHECK):
        for inputs, outputs in ((128, 512), (512, 128), (3 * group, 10)):
            check(Kind(bits, group, dtype, 4, inputs, outputs, dtype, 64), 5)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_composition(kind: Kind) -> None:
    x, weight = normal(5, kind.heads, kind.inputs + kind.rest), kind.weight()
    out = head_linear_mlx(x, weight, kind.rest)
    assert close(out, head_linear_reference(x, weight, kind.rest), 1e-5)
    assert head_linear_mlx(x[:0], weight, kind.rest).shape == (0, *out.shape[1:])


def test_what_the_kernel_is_not_for() -> None:
    kind = KINDS[2]
    weight = kind.weight()
    assert not covers(normal(MAX_ROWS + 1, 3, 100), weight, 4)
    assert not covers(normal(1, 3, 99), weight, 3)
    assert not covers(normal(0, 3, 100), weight, 4)
    assert not covers(normal(1, 3, 100).astype(mx.int32), weight, 4)
    assert not covers(normal(1, 2, 1152), quantized(4, 1152, 64, 4), 0)
    assert not covers(normal(1, 3, 36), dense(6, 36), 0)
    with using(CHECK), watching() as launches:
        mx.eval(head_linear(normal(MAX_ROWS + 1, 3, 100), weight, 4))
    assert not launches


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_broken_head_stays_alone(broken: float) -> None:
    kind = replace(KINDS[2], rest=0)
    values = np.array(normal(2, 3, 96))
    values[1, 2, 95] = broken
    with using(CHECK):
        out = np.array(head_linear(mx.array(values), kind.weight()))
    assert not np.isfinite(out[1, 2]).any()
    assert np.isfinite(out[0]).all() and np.isfinite(out[1, :2]).all()


def test_the_order_of_simdgroups_does_not_matter() -> None:
    with using(Simulator(SimulatorOptions("check", order="reverse"))):
        check(KINDS[2], 2)


def cases() -> list[Case]:
    """Return cases small enough for thousands of mutants."""
    kinds = [KINDS[2], *KINDS[6:9], KINDS[10], *KINDS[13:]]
    return [Case(kind.name, "head_linear.metal", partial(check, kind, 2)) for kind in kinds]
