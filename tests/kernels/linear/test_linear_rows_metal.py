"""Linear layers of few rows on Metal, in the simulator's check mode, against the definition."""

from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.linear.activation import ACTIVATIONS, Activation
from bessemer.kernels.linear.linear import linear_reference
from bessemer.kernels.linear.linear_mlx import Epilogue
from bessemer.kernels.linear.linear_rows import linear_rows, tiles_of
from bessemer.kernels.linear.weight import Dense, Quantized
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching
from bessemer.kernels.norm.rms_norm import Norm

from ..arrays import coded, dense, normal, unit_of
from ..metal_cases import Case

F, H, B = mx.float32, mx.float16, mx.bfloat16
# Against the largest value: sums in float32, then one rounding to the dtype.
TOLERANCE = {F: 5e-6, H: 1e-3, B: 6e-3}
KINDS: dict[int, Activation] = {number: name for name, number in ACTIVATIONS.items()}
EPS = 1e-3
CHECK = SimulatorOptions(mode="check")
LIMIT = 0.7
EDGES = ((2, 40, 1), (7, 9, 9), (8, 33, 3))  # rows, outputs, groups of inputs
WIDE_EDGES = ((9, 40, 1), (13, 7, 9), (16, 33, 3))


@dataclass(frozen=True, slots=True)
class Variant:
    """A case that the kernel is compiled for; an activation by number, 0 for none."""

    form: int | str  # bits, or another storage
    group: int
    dtype: mx.Dtype
    stored: mx.Dtype  # of scales and biases, or of a dense weight
    is_wide: bool  # more than 8 rows
    activation: int = 0
    bias: bool = False
    residual: bool = False
    norm: bool = False


# Each pair of values occurs, except that an activation has no residual; formats meet some of them.
VARIANTS = (
    Variant(2, 32, B, H, True, 3, bias=True),
    Variant(2, 32, H, H, False, 0, residual=True),
    Variant(2, 64, F, B, False, 3),
    Variant(2, 128, H, F, True, 3, norm=True),
    Variant(3, 32, H, B, False, 4, norm=True),
    Variant(3, 64, B, F, True, 0, residual=True),
    Variant(3, 128, F, H, False, 0, bias=True, residual=True),
    Variant(4, 32, F, B, True, 0, residual=True, norm=True),
    Variant(4, 64, H, F, False, 2, bias=True, norm=True),
    Variant(4, 128, B, H, False, 4, bias=True),
    Variant(5, 32, H, F, True, 1, bias=True),
    Variant(5, 32, B, H, True, 0, residual=True, norm=True),
    Variant(5, 64, F, H, False, 4, bias=True),
    Variant(5, 128, B, B, False, 2, norm=True),
    Variant(6, 32, H, B, False, 1, bias=True, norm=True),
    Variant(6, 64, B, H, True, 1),
    Variant(6, 128, F, F, False, 1),
    Variant(6, 128, B, B, True, 0, bias=True, residual=True, norm=True),
    Variant(8, 32, B, H, True, 0, bias=True, norm=True),
    Variant(8, 64, H, B, False, 0, bias=True, residual=True, norm=True),
    Variant(8, 128, F, F, True, 4),
    Variant("mxfp4", 32, B, H, False, 0, bias=True, residual=True),
    Variant("mxfp4", 32, F, F, True, 2, bias=True),
    Variant(2, 16, F, F, False, 2, bias=True),
    Variant(3, 16, H, F, True, 0, residual=True),
    Variant("q2_k", 16, F, F, False, 1, norm=True),
    Variant("q3_k", 16, F, F, True, 0, bias=True, residual=True),
    Variant("q4_k", 32, F, F, True, 1, bias=True, norm=True),
    Variant("q4_k", 32, H, F, False, 0, residual=True),
    Variant("q5_k", 32, B, F, False, 0, residual=True, norm=True),
    Variant("q6_k", 16, F, F, True, 0, residual=True),
    Variant("iq4_xs", 32, F, F, False, 3, bias=True),
    Variant("iq4_nl", 32, F, F, True, 0, norm=True),
    Variant("q4_0", 32, H, H, False, 1),
    Variant("q5_0", 32, F, H, True, 0, bias=True),
    Variant("q8_0", 32, F, H, False, 0, residual=True, norm=True),
    Variant("dense", 32, B, B, False, 4, bias=True, norm=True),
    Variant("dense", 32, F, F, True, 2),
    Variant("dense", 32, H, H, True, 0, bias=True, residual=True, norm=True),
)
PLAIN = Variant(4, 64, F, H, True, 0, bias=True, residual=True, norm=True)
GATED = Variant(4, 64, F, H, False, 1, bias=True, norm=True)


def weight_of(variant: Variant, outputs: int, inputs: int) -> Dense | Quantized:
    if variant.form == "dense":
        return dense(outputs, inputs, variant.stored)
    return coded(variant.form, outputs, inputs, variant.group, variant.stored)


def operands(
    variant: Variant, rows: int, outputs: int, groups: int
) -> tuple[mx.array, Dense | Quantized, dict[str, Any]]:
    """x, the weight, the epilogue and norm by name; rows of unlike size, results of about 1."""
    inputs = groups * unit_of(variant.form, variant.group)
    weight = weight_of(variant, outputs * 2 if variant.activation else outputs, inputs)
    sizes = mx.array(np.linspace(0.5, 2, rows, dtype=np.float32) / inputs**0.5)[:, None]
    x = (normal(rows, inputs) * sizes).astype(variant.dtype)
    epilogue: dict[str, Any] = {}
    if variant.bias:
        epilogue["bias"] = normal(weight.outputs, seed=2).astype(variant.dtype)
    if variant.residual:
        epilogue["residual"] = normal(rows, outputs, seed=3).astype(variant.dtype)
    if variant.activation:
        epilogue |= {"activation": KINDS[variant.activation], "limit": LIMIT}
    rest: dict[str, Any] = {"epilogue": Epilogue(**epilogue)}
    if variant.norm:
        factors = normal(inputs, seed=4) / inputs**0.5
        rest["norm"] = Norm(factors.astype(variant.dtype), EPS)
    return x, weight, rest


def expect(
    variant: Variant, rows: int, outputs: int, groups: int, options: SimulatorOptions = CHECK
) -> None:
    """Runs it, and raises where it is not the definition."""
    x, weight, rest = operands(variant, rows, outputs, groups)
    with using(Simulator(options)):
        out = linear_rows(x, weight, **rest)
        mx.eval(out)
    wide = {name: widened(value) for name, value in rest.items()}
    oracle = linear_reference(x.astype(F), weight, **wide)
    assert out.dtype == variant.dtype and out.shape == (rows, outputs)
    assert largest(out.astype(F) - oracle) <= TOLERANCE[variant.dtype] * largest(oracle)


def widened(value: Any) -> Any:
    if isinstance(value, Norm):
        return Norm(value.weight.astype(F), value.eps)
    if isinstance(value, Epilogue):
        arrays = {"bias": value.bias, "residual": value.residual}
        return replace(value, **{name: widened(array) for name, array in arrays.items()})
    return value.astype(F) if isinstance(value, mx.array) else value


def largest(values: mx.array) -> float:
    """NaN if there is one."""
    return float(np.abs(np.array(values)).max())


def cases() -> list[Case]:
    """Return a few cases that together notice a fault."""
    taken = (
        ("plain", PLAIN, (13, 9, 9)),
        ("gated", GATED, (7, 9, 1)),
        ("wide_codes", Variant(6, 64, B, H, True, 1), (9, 7, 2)),
        ("split_codes", Variant(3, 128, F, H, False, 0, bias=True, residual=True), (3, 17, 1)),
        ("dense", Variant("dense", 32, F, F, True, 2), (9, 3, 9)),
        ("mxfp4", Variant("mxfp4", 32, F, F, True, 2, bias=True), (10, 3, 33)),
        ("superblocks", Variant("q4_k", 32, F, F, False, 0), (3, 9, 9)),
        ("bytes", Variant("q6_k", 16, F, F, False, 0), (3, 9, 2)),
        ("table", Variant("iq4_xs", 32, F, F, False, 0), (3, 9, 2)),
        ("tall", Variant(4, 32, F, H, True, 0), (9, 4097, 1)),
    )
    return [
        Case(name, "linear_rows.metal", lambda variant=variant, size=size: expect(variant, *size))
        for name, variant, size in taken
    ]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_case(case: Case) -> None:
    case.run()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_storage(variant: Variant) -> None:
    for rows, outputs, groups in WIDE_EDGES if variant.is_wide else EDGES:
        expect(variant, rows, outputs if groups < 9 else 9, groups)


@pytest.mark.parametrize("variant", [PLAIN, GATED], ids=["plain", "gated"])
@pytest.mark.parametrize("outputs", [8, 15, 16, 17])
def test_outputs_around_a_tile(variant: Variant, outputs: int) -> None:
    expect(variant, 16 if variant.is_wide else 8, outputs, 2)


def test_arrays_so_small_that_they_are_constants() -> None:
    """Arrays of fewer than 8 elements are constants."""
    variant = Variant(2, 32, H, H, False, 0, bias=True, residual=True)
    for rows, outputs in ((1, 1), (3, 2)):
        expect(variant, rows, outputs, 1)


@pytest.mark.long  # the case "tall" has the most tiles
@pytest.mark.parametrize(("tiles", "outputs"), [(2, 2047), (4, 2048 + 9), (8, 4096 + 9)])
def test_many_outputs(tiles: int, outputs: int) -> None:
    """Threadgroups are taller, and the last has fewer outputs."""
    for variant in (Variant(4, 32, F, H, True, 0), Variant(4, 32, F, H, True, 1)):
        width = outputs // 2 if variant.activation else outputs
        weight = weight_of(variant, width * 2 if variant.activation else width, 32)
        assert tiles_of(weight, 16) == tiles
        expect(variant, 9, width, 1)


@pytest.mark.parametrize(
    "options",
    [SimulatorOptions("check", contract=True), SimulatorOptions("check", order="reverse")],
    ids=str,
)
def test_contraction_and_order_do_not_matter(options: SimulatorOptions) -> None:
    expect(PLAIN, 13, 40, 9, options)


def test_a_row_does_not_depend_on_the_others() -> None:
    x, weight, rest = operands(PLAIN, 16, 24, 9)
    with using(Simulator(CHECK)):
        oracle = np.array(linear_rows(x, weight, **rest))
        for start, stop in ((0, 1), (3, 12), (7, 16)):
            epilogue = rest["epilogue"]
            mine = replace(epilogue, residual=epilogue.residual[start:stop])
            part = rest | {"epilogue": mine}
            assert (
                np.array(linear_rows(x[start:stop], weight, **part)) == oracle[start:stop]
            ).all()


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_a_broken_row_shows_and_stays_alone(broken: float) -> None:
    x, weight, rest = operands(PLAIN, 13, 24, 9)
    values = np.array(x)
    values[[2, 12], [9, 300]] = broken
    with using(Simulator(CHECK)):
        sound = np.array(linear_rows(x, weight, **rest))
        out = np.array(linear_rows(mx.array(values), weight, **rest))
    assert not np.isfinite(out[[2, 12]]).any()
    others = [row for row in range(13) if row not in (2, 12)]
    assert (out[others] == sound[others]).all()


def test_a_norm_of_large_values_does_not_overflow() -> None:
    """x times the norm's weight is over what 16 bits hold, the result is not."""
    x, weight, _ = operands(replace(PLAIN, dtype=H), 13, 24, 9)
    x, norm = x * 20000, Norm(mx.full((576,), 90, H), EPS)
    assert largest(x * norm.weight) == np.inf
    with using(Simulator(CHECK)):
        out = linear_rows(x, weight, norm=norm)
    oracle = linear_reference(x.astype(F), weight, norm=widened(norm))
    assert largest(out.astype(F) - oracle) <= TOLERANCE[H] * largest(oracle)


@pytest.mark.parametrize(
    "variant", [PLAIN, *(replace(PLAIN, form=form) for form in ("q3_k", "q4_k", "q6_k"))], ids=str
)
def test_weights_are_read_once(variant: Variant) -> None:
    """It holds whatever the number of rows; outputs here are whole tiles."""
    for rows in (9, 16):
        x, weight, rest = operands(variant, rows, 64, 9)
        with using(Simulator(CHECK)), watching() as launches:
            mx.eval(linear_rows(x, weight, **rest))
        (launch,) = launches
        assert launch.report is not None
        for name in ("weight", "scales", "biases", "residual", "y"):
            flow = launch.report.buffer(name)
            assert flow.moved == flow.unique == flow.size


@pytest.mark.long
@pytest.mark.parametrize("form", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("dtype", [F, H, B], ids=str)
def test_grid(form: int, group: int, dtype: mx.Dtype) -> None:
    for stored in (F, H, B):
        for activation in range(5):
            variant = Variant(form, group, dtype, stored, form % 2 == 0, activation, norm=form > 3)
            for rows, outputs, groups in WIDE_EDGES if variant.is_wide else EDGES:
                expect(variant, rows, outputs, groups)
