"""Linear layers of one row on Metal, in the simulator's check mode, against the definition."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.engine.gguf.blocks import BLOCKS
from bessemer.kernels.linear.activation import ACTIVATIONS, Activation
from bessemer.kernels.linear.linear import gated_linear, linear, linear_reference
from bessemer.kernels.linear.linear_metal import SLICED
from bessemer.kernels.linear.linear_mlx import Epilogue, linear_mlx
from bessemer.kernels.linear.weight import Dense, Quantized, arrays_of
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching
from bessemer.kernels.norm.rms_norm import Norm

from ..arrays import coded, dense, normal, quantized, same, unit_of
from ..metal_cases import Case

F, H, B = mx.float32, mx.float16, mx.bfloat16
# Against the largest value: sums in float32, then one rounding to the dtype.
TOLERANCE = {F: 5e-6, H: 1e-3, B: 6e-3}
KINDS: dict[int, Activation] = {number: name for name, number in ACTIVATIONS.items()}
EPS, LIMIT = 1e-3, 0.7
# Outputs for which so many simdgroups share the rows: the fewest of their plan, and some with
# a last tile that is not full.
OUTPUTS = {1: (2560, 2566), 2: (640, 650), 4: (2, 38)}
CHECK = Simulator(SimulatorOptions(mode="check"))


@dataclass(frozen=True, slots=True)
class Variant:
    """A case that linear.metal is compiled for."""

    form: int | str  # bits, or another storage
    group: int
    dtype: mx.Dtype
    stored: mx.Dtype  # of scales and biases
    share: int  # simdgroups that share rows
    gated: bool
    norm: str | None  # its weight has the dtype of x, or float32
    bias: bool
    residual: bool

    @property
    def activation(self) -> int:
        return ACTIVATIONS["silu"] if self.gated else 0

    @property
    def inputs(self) -> tuple[int, int]:
        """As few as can be; and so many that some lanes of all simdgroups take a second run."""
        unit = unit_of(self.form, self.group)
        run = 16 if self.weight(1, unit).bits in (4, 6, 8) else 32
        return unit, 32 * run * self.share + unit

    def weight(self, outputs: int, inputs: int) -> Quantized:
        return coded(self.form, outputs, inputs, self.group, self.stored)


@dataclass(frozen=True, slots=True)
class Floats:
    """A case that linear_dense.metal is compiled for."""

    stored: mx.Dtype
    even: bool  # rows begin at multiples of 16 bytes
    dtype: mx.Dtype
    share: int
    activation: int
    norm: str | None
    bias: bool
    residual: bool

    @property
    def inputs(self) -> tuple[int, int]:
        count = 16 // self.stored.size if self.even else 1
        return (count if self.even else 3), 32 * count * self.share + (count if self.even else 5)

    def weight(self, outputs: int, inputs: int) -> Dense:
        return dense(outputs, inputs, self.stored)


# Each pair of values occurs, but for what excludes each other (an activation has no residual).
QUANTIZED = (
    Variant("mxfp4", 32, F, F, 2, False, "wide", True, False),
    Variant("mxfp4", 32, H, F, 1, False, None, False, True),
    Variant("mxfp4", 32, H, F, 4, True, "same", False, False),
    Variant("mxfp4", 32, B, F, 4, True, "wide", False, False),
    Variant(2, 32, H, F, 1, True, "wide", False, False),
    Variant(2, 64, F, B, 2, True, None, False, False),
    Variant(2, 128, B, F, 4, False, "same", False, True),
    Variant(2, 128, H, H, 2, False, None, True, True),
    Variant(3, 32, B, B, 1, True, None, True, False),
    Variant(3, 64, H, H, 2, False, "wide", False, True),
    Variant(3, 128, F, F, 4, False, "same", True, True),
    Variant(4, 32, F, F, 1, False, "same", True, True),
    Variant(4, 64, B, B, 4, True, None, False, False),
    Variant(4, 128, F, H, 4, True, "same", True, False),
    Variant(4, 128, H, B, 2, False, "wide", False, False),
    Variant(5, 32, B, H, 4, True, "wide", False, False),
    Variant(5, 64, F, F, 1, True, "wide", False, False),
    Variant(5, 64, H, B, 4, False, "same", True, False),
    Variant(5, 128, H, F, 2, False, None, True, True),
    Variant(6, 32, F, H, 4, False, None, False, True),
    Variant(6, 64, H, F, 2, True, "same", True, False),
    Variant(6, 128, B, B, 1, False, "wide", True, True),
    Variant(8, 32, H, F, 4, False, "same", False, True),
    Variant(8, 64, B, B, 2, False, "same", True, False),
    Variant(8, 128, B, H, 1, False, None, True, False),
    Variant(8, 128, F, B, 2, True, "wide", True, False),
    Variant(2, 16, H, F, 4, True, None, False, False),
    Variant(3, 16, F, F, 4, False, "wide", True, True),
    Variant(6, 16, B, F, 4, False, "same", False, False),
    Variant("q2_k", 16, F, F, 4, True, None, True, False),
    Variant("q2_k", 16, H, F, 4, False, "wide", False, True),
    Variant("q3_k", 16, F, F, 4, False, "same", True, True),
    Variant("q4_k", 32, B, F, 1, False, "wide", False, False),
    Variant("q4_k", 32, F, F, 4, True, "same", True, False),
    Variant("q5_k", 32, F, F, 4, False, None, False, True),
    Variant("q6_k", 16, F, F, 2, False, "wide", True, True),
    Variant("q6_k", 16, H, F, 4, True, None, False, False),
    Variant("iq4_xs", 32, F, F, 4, False, "same", False, True),
    Variant("iq4_nl", 32, F, H, 4, True, None, True, False),
    Variant("iq4_nl", 32, H, F, 4, False, "wide", False, True),
    Variant("q4_0", 32, H, H, 2, False, None, True, True),
    Variant("q5_0", 32, F, H, 4, True, "same", False, False),
    Variant("q8_0", 32, B, H, 4, False, "wide", True, True),
)
DENSE = (
    Floats(B, True, H, 4, 0, None, False, True),
    Floats(F, False, B, 1, 0, "same", True, True),
    Floats(H, True, F, 2, 0, "wide", True, True),
    Floats(F, True, F, 4, 0, None, False, False),
    Floats(B, False, F, 1, 1, None, False, False),
    Floats(F, True, H, 2, 1, "same", False, False),
    Floats(H, True, B, 4, 1, "wide", True, False),
    Floats(H, True, H, 1, 2, "wide", True, False),
    Floats(B, False, B, 4, 2, "wide", False, False),
    Floats(F, True, F, 4, 2, None, False, False),
    Floats(B, True, B, 2, 2, "same", False, False),
    Floats(H, False, B, 2, 3, "same", False, False),
    Floats(F, True, B, 4, 3, None, True, False),
    Floats(B, False, H, 1, 3, "wide", True, False),
    Floats(B, True, F, 1, 3, "same", False, False),
    Floats(F, True, F, 4, 4, "wide", True, False),
    Floats(H, False, B, 2, 4, None, False, False),
    Floats(B, True, H, 4, 4, "same", True, False),
    Floats(F, True, H, 1, 4, "wide", True, False),
)


@dataclass(frozen=True, slots=True, eq=False)
class Operands:
    x: mx.array
    weight: Dense | Quantized
    bias: mx.array | None
    residual: mx.array | None
    norm: Norm | None


def operands(variant: Variant | Floats, outputs: int, inputs: int) -> Operands:
    """Return random operands in the variant's dtypes, with products of about 1."""
    small = 1 / inputs**0.5
    dtype, results = variant.dtype, outputs // 2 if variant.activation else outputs
    norm = None
    if variant.norm:
        gain = (normal(inputs, seed=3) + 0.5) * small
        norm = Norm(gain.astype(F if variant.norm == "wide" else dtype), EPS)
    return Operands(
        (normal(1, inputs, seed=2) * (1 if norm else small)).astype(dtype),
        variant.weight(outputs, inputs),
        normal(outputs, seed=4).astype(dtype) if variant.bias else None,
        normal(1, results, seed=5).astype(dtype) if variant.residual else None,
        norm,
    )


def one(table: Sequence[Any], **fields: object) -> Any:
    """The first variant that has these values."""
    return next(v for v in table if all(getattr(v, k) == value for k, value in fields.items()))


def result_of(case: Operands, activation: int) -> mx.array:
    if activation:
        return gated_linear(
            case.x, case.weight, Epilogue(case.bias, None, KINDS[activation], LIMIT), case.norm
        )
    return linear(case.x, case.weight, Epilogue(case.bias, case.residual), case.norm)


def oracle_of(case: Operands, activation: int) -> mx.array:
    """Return the definition's result in float32, of the same rounded operands."""
    x, bias, residual = (
        None if array is None else array.astype(F) for array in (case.x, case.bias, case.residual)
    )
    assert x is not None
    if activation:
        return linear_reference(
            x, case.weight, Epilogue(bias, None, KINDS[activation], LIMIT), case.norm
        )
    return linear_reference(x, case.weight, Epilogue(bias, residual), case.norm)


def error(result: mx.array, oracle: mx.array) -> float:
    """The largest difference against the largest value, or what one value alone may cancel to."""
    assert result.shape == oracle.shape
    a, b = (np.array(array.astype(F)) for array in (result, oracle))
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 0.1))


def check(variant: Variant | Floats, outputs: int, inputs: int) -> None:
    case = operands(variant, outputs, inputs)
    with using(CHECK), watching() as launches:
        result = result_of(case, variant.activation)
    name = "linear" if isinstance(variant, Variant) else "linear_dense"
    assert [launch.source.name for launch in launches] == [name]
    threads = 32 * max(2, variant.share)
    assert launches[0].threadgroup == (threads, 1, 1)
    assert result.dtype == variant.dtype
    assert error(result, oracle_of(case, variant.activation)) <= TOLERANCE[variant.dtype]


@pytest.mark.parametrize("variant", [*QUANTIZED, *DENSE], ids=str)
def test_a_row(variant: Variant | Floats) -> None:
    few, many = variant.inputs
    fewer, more = OUTPUTS[variant.share]
    for outputs, inputs in ((fewer, many), (more, few), (more, many)):
        check(variant, outputs, inputs)


@pytest.mark.long
@pytest.mark.parametrize("form", [2, 3, 4, 5, 6, 8, "mxfp4"])
@pytest.mark.parametrize("dtype", [F, H, B])
def test_every_format_dtype_and_share(form: int | str, dtype: mx.Dtype) -> None:
    for share in (1, 2, 4):
        for group in (32, 64, 128) if form != "mxfp4" else (32,):
            for norm, gated, residual in (
                (None, False, True),
                ("same", True, False),
                ("wide", False, False),
            ):
                variant = Variant(form, group, dtype, B, share, gated, norm, True, residual)
                check(variant, OUTPUTS[share][1], variant.inputs[1])


@pytest.mark.parametrize(
    "variant",
    [
        one(QUANTIZED, share=4, gated=True),
        one(QUANTIZED, share=4, gated=False, norm="same"),
        one(DENSE, share=4, activation=0),
        one(DENSE, share=4, even=False),
    ],
    ids=str,
)
def test_fewer_than_eight_elements(variant: Variant | Floats) -> None:
    """MLX hands such arrays over in another address space."""
    for outputs in (2, 4, 6):
        for inputs in (variant.inputs[0], variant.inputs[0] * 2):
            check(variant, outputs, inputs)


@pytest.mark.parametrize(
    "variant",
    [one(QUANTIZED, form=4, share=4, dtype=F), one(DENSE, share=2, activation=3)],
    ids=str,
)
def test_contraction_and_the_order_of_lanes(variant: Variant | Floats) -> None:
    case = operands(variant, OUTPUTS[variant.share][1], variant.inputs[1])
    oracle = oracle_of(case, variant.activation)
    with using(CHECK):
        forward = result_of(case, variant.activation)
    with using(Simulator(SimulatorOptions(mode="check", order="reverse"))):
        assert same(result_of(case, variant.activation).astype(F), forward.astype(F))
    with using(Simulator(SimulatorOptions(mode="check", contract=True))):
        contracted = result_of(case, variant.activation)
    assert error(contracted, oracle) <= TOLERANCE[variant.dtype]


@pytest.mark.parametrize(
    "variant", [one(QUANTIZED, share=4, gated=False), one(DENSE, share=4, activation=4)], ids=str
)
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_what_is_broken_shows(variant: Variant | Floats, broken: float) -> None:
    case = operands(variant, 38, variant.inputs[1])
    case.x[0, variant.inputs[1] - 1] = broken
    with using(CHECK):
        assert not mx.isfinite(result_of(case, variant.activation)).any()


def test_a_broken_scale_stays_in_its_row() -> None:
    case = operands(one(QUANTIZED, form=8, share=2, gated=False), 650, 128)
    assert isinstance(case.weight, Quantized)
    case.weight.scales[647, 1] = mx.nan
    with using(CHECK):
        result = result_of(case, 0)
    assert mx.isnan(result[0]).tolist() == [row == 647 for row in range(650)]


def test_large_values_pass_the_norm_in_16_bits() -> None:
    """Times the norm's weight they would be no half."""
    variant = one(QUANTIZED, dtype=H, share=4, norm="same", gated=False)
    case = operands(variant, 38, 2 * variant.group)
    assert case.norm is not None
    x = mx.clip(case.x * 60000, -60000, 60000)
    norm = Norm(mx.full(x.shape[1], 8.0, H), EPS)
    large = replace(case, x=x, norm=norm)
    with using(CHECK):
        result = result_of(large, 0)
    assert error(result, oracle_of(large, 0)) <= TOLERANCE[H]


@pytest.mark.parametrize(
    "form", [3, 4, "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs", "iq4_nl", "q5_0", "q8_0"]
)
def test_weights_move_once(form: int | str) -> None:
    """Several lanes ask for a scale in one instruction, and no instruction asks for it again.

    So a decoded token moves the bytes of GGUF's types: those of `BLOCKS`, of which IQ4_XS has 138
    to the file's 136.
    """
    variant = one(QUANTIZED, form=form, share=4)
    case = operands(variant, 40, 4096)
    with using(Simulator(SimulatorOptions(mode="count"))), watching() as launches:
        result_of(case, variant.activation)
    report = launches[0].report
    assert report is not None
    moved = 0
    for name in ("weight", "scales", "biases"):
        loads = report.buffer(name).loads
        assert loads.moved == loads.unique
        moved += loads.moved
    assert moved == sum(each.nbytes for each in arrays_of(case.weight))
    if (type_name := str(form).upper()) in BLOCKS:
        block = BLOCKS[type_name].type
        file = 40 * 4096 // block.values * block.bytes
        assert file <= moved <= 1.015 * file


def check_loads(variant: Variant | Floats, per_run: int, run: int) -> None:
    """Assert how often a lane loads for `run` inputs: a plan that a result alone cannot show."""
    inputs = 32 * run * variant.share
    case = operands(variant, 40, inputs)
    with using(Simulator(SimulatorOptions(mode="count"))), watching() as launches:
        result_of(case, variant.activation)
    report = launches[0].report
    assert report is not None
    loads = [line for line in report.lines if (line.space, line.kind) == ("device", "load")]
    inner = sum(line.accesses for line in loads if line.accesses > 40)
    assert inner == per_run * 40 // 4 * inputs // run


LOADS = (
    # Of x and of the norm's weight 4 times 16 bytes; of 4 rows the codes, a scale and a bias.
    (one(QUANTIZED, form=4, share=4, dtype=F), 4 + 4 + 4 * 3, 16),
    # 16 bytes of x, and of 4 rows.
    (one(DENSE, even=True, share=4, dtype=F, stored=F, norm=None), 1 + 4, 4),
)


@pytest.mark.parametrize(("variant", "per_run", "run"), LOADS, ids=str)
def test_loads_are_wide(variant: Variant | Floats, per_run: int, run: int) -> None:
    check_loads(variant, per_run, run)


@pytest.mark.parametrize("rows", [0, 17, 40])
def test_other_numbers_of_rows_are_composed(rows: int) -> None:
    weight, bias = quantized(38, 128, 64, 4, F), normal(38)
    x, residual = normal(rows, 128), normal(rows, 38, seed=1)
    norm = Norm(normal(128, seed=3), EPS)
    summed, joined = Epilogue(bias, residual), Epilogue(bias, None, "gelu")
    with using(CHECK), watching() as launches:
        result = linear(x, weight, summed, norm)
        gated = gated_linear(x, weight, joined, norm)
        assert same(result, linear_mlx(x, weight, summed, norm))
        assert same(gated, linear_mlx(x, weight, joined, norm))
    assert not launches
    if rows:
        assert error(result, linear_reference(x, weight, summed, norm)) < 1e-5
        assert error(gated, linear_reference(x, weight, joined, norm)) < 1e-5


@pytest.mark.parametrize(
    ("form", "rows", "kernels"),
    [
        ("q4_k", 17, ["linear_rows"] * 2),
        ("q8_0", SLICED, ["linear_rows"] * 4),
        ("q6_k", SLICED + 1, ["embedding"] * 3),
        ("iq4_nl", 200, ["embedding"]),
        (2, 200, ["embedding"]),
    ],
)
def test_more_rows_of_what_mlx_does_not_have(
    monkeypatch: pytest.MonkeyPatch, form: int | str, rows: int, kernels: list[str]
) -> None:
    """Their codes are read again for each 16 rows, or restored in parts, which MLX multiplies."""
    monkeypatch.setattr("bessemer.kernels.linear.linear_metal.RESTORED", 16 * 512)
    outputs = 16 * len(kernels) - 10 if rows > SLICED else 38
    for dtype in (F, H):
        weight = coded(form, outputs, 512, 16, F)
        x, residual = (normal(rows, 512) / 512**0.5).astype(dtype), normal(rows, outputs, seed=1)
        norm = Norm(normal(512, seed=3), EPS)
        for epilogue in (
            Epilogue(normal(outputs).astype(dtype), residual.astype(dtype)),
            Epilogue(None, None, "gelu"),
        ):
            with using(CHECK), watching() as launches:
                result = linear(x, weight, epilogue, norm)
                mx.eval(result)
            assert [launch.source.name for launch in launches] == kernels
            oracle = linear_reference(x.astype(F), weight, epilogue, norm)
            assert result.dtype == dtype and error(result, oracle) <= 2 * TOLERANCE[dtype]


def test_prompts_of_any_length_are_tried_once() -> None:
    """The same is launched for them, and the definition takes a while to compute."""
    metal, weight = linear.metal, coded("q4_k", 8, 256, 32, H)
    assert metal is not None and metal.takes is not None
    keys = [metal.key(normal(rows, 256), weight) for rows in (SLICED, SLICED + 1, 200, 2000)]
    assert keys[0] != keys[1] == keys[2] == keys[3]
    assert all(metal.takes(normal(rows, 256), weight) for rows in (1, 17, 200))
    assert not metal.takes(normal(17, 256), quantized(8, 256, 64, 4))


@pytest.mark.parametrize("rows", [2, 16])
def test_a_few_rows_are_decoded_together(rows: int) -> None:
    weight, x = quantized(64, 128, 64, 4, F), normal(rows, 128)
    with using(Simulator()), watching() as launches:
        gated_linear(x, weight, Epilogue(activation="silu"))
    assert [launch.source.name for launch in launches] == ["linear_rows"]


def cases() -> list[Case]:
    """Return cases in float32, where faults show best: formats, shares, tiles, activations."""
    chosen = [variant for variant in (*QUANTIZED, *DENSE) if variant.dtype == F]
    return [
        Case(
            str(variant),
            file_of(variant),
            partial(check, variant, OUTPUTS[variant.share][1], variant.inputs[many]),
        )
        for variant in chosen
        for many in ((0, 1) if variant.share == 4 else (0,))
    ] + [
        Case(f"loads of {loads[0]}", file_of(loads[0]), partial(check_loads, *loads))
        for loads in LOADS
    ]


def file_of(variant: Variant | Floats) -> str:
    return "linear.metal" if isinstance(variant, Variant) else "linear_dense.metal"
