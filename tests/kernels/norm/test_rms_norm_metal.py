"""The norm of rows on Metal, in the simulator's check mode, against the definition."""

from dataclasses import dataclass
from functools import partial

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching
from bessemer.kernels.norm.rms_norm import Norm, rms_norm, rms_norm_reference

from ..arrays import normal, same
from ..metal_cases import Case

F, H, B = mx.float32, mx.float16, mx.bfloat16
# Against the largest value: sums in float32, then one rounding to the dtype.
TOLERANCE = {F: 5e-6, H: 1e-3, B: 6e-3}
CHECK = Simulator(SimulatorOptions(mode="check"))
EPS = 0.02


@dataclass(frozen=True, slots=True)
class Variant:
    """A case that rms_norm.metal is compiled for."""

    dtype: mx.Dtype
    weight: mx.Dtype
    even: bool  # widths of a multiple of 4

    @property
    def widths(self) -> tuple[int, ...]:
        """One simdgroup not full, some with a last one not full, as many as there can be."""
        return (4, 100, 576, 4100) if self.even else (1, 7, 101, 1031)


# Each pair of values occurs.
VARIANTS = (
    Variant(F, F, True),
    Variant(F, F, False),
    Variant(H, H, True),
    Variant(H, H, False),
    Variant(B, B, True),
    Variant(B, B, False),
    Variant(H, F, True),
    Variant(B, F, False),
    Variant(F, H, True),
    Variant(F, B, False),
)


def check(variant: Variant, *shape: int) -> None:
    x = (normal(*shape) * 3).astype(variant.dtype)
    weight = (normal(shape[-1], seed=1) + 0.5).astype(variant.weight)
    with using(CHECK), watching() as launches:
        out = rms_norm(x, weight, EPS)
    assert [launch.source.name for launch in launches] == ["rms_norm"]
    assert out.shape == x.shape and out.dtype == variant.dtype
    oracle = np.array(rms_norm_reference(x.astype(F), weight, EPS))
    off = np.abs(np.array(out.astype(F)) - oracle).max()
    assert off <= TOLERANCE[variant.dtype] * np.abs(oracle).max()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_rows(variant: Variant) -> None:
    for width in variant.widths:
        check(variant, 1, width)
        check(variant, 3, width)
    check(variant, 2, 5, variant.widths[1])


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_residual_is_added_to_what_was_rounded(variant: Variant) -> None:
    """The same bits as an addition after it, in one launch."""
    for width in variant.widths[1:3]:
        x, residual = ((normal(3, width, seed=s) * 3).astype(variant.dtype) for s in (2, 3))
        weight = (normal(width, seed=1) + 0.5).astype(variant.weight)
        with using(CHECK), watching() as launches:
            out = Norm(weight, EPS)(x, residual)
            alone = Norm(weight, EPS)(x)
        assert [launch.source.name for launch in launches] == ["rms_norm"] * 2
        assert out.dtype == variant.dtype
        assert same(out.astype(F), (residual + alone).astype(F))


@pytest.mark.parametrize("width", [16383, 16384])
def test_the_widest(width: int) -> None:
    for variant in (VARIANTS[0], VARIANTS[1], VARIANTS[2], VARIANTS[5]):
        if variant.even == (width % 4 == 0):
            check(variant, 1, width)


@pytest.mark.long
@pytest.mark.parametrize("width", [*range(1, 140), 1023, 1024, 1025, 4095, 4096, 4097])
def test_every_width(width: int) -> None:
    for dtype in (F, H, B):
        check(Variant(dtype, dtype, width % 4 == 0), 2, width)


def test_no_rows() -> None:
    empty, weight = mx.zeros((0, 20), H), mx.ones(20, H)
    with using(CHECK):
        assert rms_norm(empty, weight, EPS).shape == (0, 20)


def test_zeros_nan_and_large_values_stay_in_their_rows() -> None:
    x = normal(5, 100)
    x[1] = 0
    x[2, 99] = mx.nan
    x[3] = 1e25
    weight = mx.ones(100)
    with using(CHECK):
        out = rms_norm(x, weight, EPS)
        alone = rms_norm(x[4:], weight, EPS)
    assert mx.isnan(out).all(axis=-1).tolist() == [False, False, True, False, False]
    assert mx.isfinite(out).all(axis=-1).tolist() == [True, True, False, True, True]
    assert not out[1].any()
    assert same(out[4:], alone)


def test_a_slice() -> None:
    x, weight = normal(4, 60)[:, 20:40], normal(20, seed=1)
    with using(CHECK):
        out = rms_norm(x, weight, EPS)
        again = Norm(weight, EPS)(x + 0)
    assert same(out, again)


@pytest.mark.parametrize(
    "options",
    [SimulatorOptions("check", contract=True), SimulatorOptions("check", order="reverse")],
)
def test_contraction_and_the_order_of_lanes(options: SimulatorOptions) -> None:
    x, weight = normal(2, 576), normal(576, seed=1)
    with using(CHECK):
        oracle = rms_norm(x, weight, EPS)
    with using(Simulator(options)):
        out = rms_norm(x, weight, EPS)
    assert float(mx.abs(out - oracle).max()) <= 1e-6 * float(mx.abs(oracle).max())


def cases() -> list[Case]:
    """Return cases in float32, where faults show best."""
    return [
        Case(f"{variant} {width}", "rms_norm.metal", partial(check, variant, 2, width))
        for variant in VARIANTS
        if variant.dtype == F
        for width in variant.widths
    ]
