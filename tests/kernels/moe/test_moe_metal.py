"""Experts on Metal, few tokens and many, in the simulator's check mode against the definition."""

from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.linear.activation import Activation
from bessemer.kernels.linear.superblocks import SUPERBLOCKS
from bessemer.kernels.linear.weight import Dense, Weight
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching
from bessemer.kernels.moe.moe import Experts, Shared, moe, moe_mlx, moe_reference
from bessemer.kernels.moe.moe_metal import (
    GATHERED_BELOW,
    TILED_BELOW,
    TILED_FROM,
    Way,
    moe_tiled,
    tile_of,
    way,
)
from bessemer.kernels.moe.route import MAX_EXPERTS, MAX_PAIRS, Picks
from bessemer.kernels.norm.rms_norm import Norm

from ..arrays import coded, normal
from ..metal_cases import Case

F, H, B = mx.float32, mx.float16, mx.bfloat16
# Against the largest value: sums in float32; the inner rows, in many tokens' case also the weights
# and each expert's part, rounded to the dtype.
TOLERANCE = {F: 3e-6, H: 2e-3, B: 1.2e-2}
EPS = 1e-3
CHECK = SimulatorOptions("check")
LIMIT = 0.7
DECODE_SHARED = ["rms_norm", "linear_rows", "linear_rows"]
DECODE, PREFILL = ["moe_inner", "moe_outer"], ["moe_sort", "moe_inner_tiles", "moe_outer_tiles"]


@dataclass(frozen=True, slots=True)
class Variant:
    """A case that the kernels are compiled for; forms are bits, or another storage."""

    form: int | str
    group: int
    dtype: mx.Dtype
    stored: mx.Dtype  # of scales and biases, or of dense weights
    count: int
    hidden: int
    width: int
    k: int
    shared: int = 0  # width
    sigmoid_gate: bool = False
    activation: Activation = "silu"
    bias: bool = False
    norm: mx.Dtype | None = None
    residual: bool = False


# A few tokens. Of `hidden` and `width` some are more than a turn of all lanes, some no whole tiles;
# shared widths are several experts' and a part.
FEW = (
    Variant(4, 32, F, H, 8, 64, 96, 2, residual=True),
    Variant(8, 64, H, H, 8, 128, 64, 3, 192, True, "gelu", True, F),
    Variant(6, 128, B, B, 8, 640, 384, 4, 768, residual=True, norm=B),
    Variant("dense", 32, H, H, 5, 40, 24, 2, 40, True, "gelu_tanh", True, H, True),
    Variant("mxfp4", 32, B, B, 8, 64, 32, 2, activation="swiglu_clamped", bias=True),
    Variant("q2_k", 16, F, F, 8, 256, 256, 2, residual=True, norm=F),
    Variant("q3_k", 16, F, F, 8, 512, 256, 2, 256, True),
    Variant("q4_k", 32, F, F, 8, 256, 512, 3, 768, norm=F),
    Variant("q5_k", 32, F, F, 8, 256, 256, 2, bias=True),
    Variant("q6_k", 16, H, F, 8, 256, 256, 2, 256, residual=True),
    Variant("iq4_xs", 32, F, F, 8, 256, 256, 2),
    Variant("iq4_nl", 32, F, H, 8, 96, 64, 2),
    Variant("q8_0", 32, F, H, 8, 96, 64, 2, residual=True),
)
# Many. In moe_prefill.metal 32 rows of gate and up and 64 of down make a tile.
MANY = (
    Variant(4, 32, F, H, 4, 96, 96, 2, bias=True, activation="swiglu_clamped", residual=True),
    Variant(8, 64, H, B, 4, 128, 64, 3),
    Variant(3, 128, B, B, 4, 128, 128, 1, bias=True, activation="gelu"),
    Variant("q2_k", 16, F, F, 4, 256, 256, 2, residual=True),
    Variant("q3_k", 16, F, F, 4, 256, 512, 2),
    Variant("q4_k", 32, F, F, 4, 512, 256, 2, bias=True),
    Variant("q5_k", 32, H, F, 4, 256, 256, 2),
    Variant("q6_k", 16, F, F, 4, 256, 256, 2),
    Variant("iq4_xs", 32, F, F, 4, 256, 256, 2),
    Variant("iq4_nl", 32, F, H, 4, 96, 64, 2),
    Variant("q5_0", 32, F, H, 4, 96, 64, 2),
)
OTHERS = tuple(  # behind the mark `long`
    Variant(bits, group, dtype, dtype, 6, 256, 128, 2, 384, False, "silu", bits == 5, F, True)
    for bits in (2, 3, 4, 5, 6, 8)
    for group, dtype in ((32, H), (64, B), (128, F))
)


def matrix(variant: Variant, rows: int, columns: int, seed: int) -> Weight:
    """Return a matrix whose products are about as large as their inputs."""
    size = columns**-0.5
    if variant.form == "dense":
        return Dense((normal(rows, columns, seed=seed) * size).astype(variant.stored))
    weight = coded(variant.form, rows, columns, variant.group, variant.stored, seed)
    if variant.form in SUPERBLOCKS:
        assert weight.biases is not None
        return replace(weight, biases=(weight.biases * size).astype(H))
    if variant.form == "mxfp4":
        powers = np.array(weight.scales) - round(-np.log2(size))
        return replace(weight, scales=mx.array(powers.astype(np.uint8)))
    scales, biases = (
        None if part is None else (part * size).astype(part.dtype)
        for part in (weight.scales, weight.biases)
    )
    assert scales is not None
    return replace(weight, scales=scales, biases=biases)


def experts_of(variant: Variant) -> Experts:
    count, hidden, width = variant.count, variant.hidden, variant.width
    sizes = ((width, 4), (width, 5), (hidden, 6))
    biases = [normal(count, rows, seed=seed) * 0.2 for rows, seed in sizes]
    mx.eval(biases)
    shared = None
    if variant.shared:
        opening = normal(1, hidden, seed=9).astype(variant.dtype) if variant.sigmoid_gate else None
        both = matrix(variant, 2 * variant.shared, hidden, 7)
        shared = Shared(both, matrix(variant, hidden, variant.shared, 8), opening)
    return Experts(
        count,
        matrix(variant, count * width, hidden, 1),
        matrix(variant, count * width, hidden, 2),
        matrix(variant, count * hidden, width, 3),
        biases[0] if variant.bias else None,
        biases[1] if variant.bias else None,
        biases[2] if variant.bias else None,
        variant.activation,
        LIMIT,
        shared=shared,
    )


def routed(rows: int, count: int, k: int) -> tuple[mx.array, mx.array]:
    """Experts may be a token's more than once."""
    random = np.random.RandomState(rows)
    chosen = random.randint(0, count, (rows, k)).astype(np.int32)
    return mx.array(chosen), mx.array(random.rand(rows, k).astype(np.float32))


def operands(variant: Variant, rows: int) -> tuple[mx.array, dict[str, Any]]:
    """x, and the residual and norm by name; rows of unlike size."""
    sizes = mx.array(np.linspace(0.5, 2, rows, dtype=np.float32))[:, None]
    x = (normal(rows, variant.hidden) * sizes).astype(variant.dtype)
    rest: dict[str, Any] = {}
    if variant.residual:
        rest["residual"] = normal(rows, variant.hidden, seed=6).astype(variant.dtype)
    if variant.norm is not None:
        rest["norm"] = Norm(normal(variant.hidden, seed=5).astype(variant.norm), EPS)
    return x, rest


def definition(x: mx.array, experts: Experts, routing: Picks, **rest: Any) -> mx.array:
    residual, norm = rest.get("residual"), rest.get("norm")
    wide = None if norm is None else Norm(norm.weight.astype(F), norm.eps)
    added = None if residual is None else residual.astype(F)
    return moe_reference(x.astype(F), experts, routing, residual=added, norm=wide)


def largest(values: mx.array) -> float:
    """NaN if there is one."""
    return float(np.abs(np.array(values)).max())


def expect(
    variant: Variant,
    rows: int,
    options: SimulatorOptions = CHECK,
    routing: tuple[mx.array, mx.array] | None = None,
) -> None:
    """Runs it, and raises where it is not the definition or went another way."""
    experts, (x, rest) = experts_of(variant), operands(variant, rows)
    routing = routing or routed(rows, variant.count, variant.k)
    with using(Simulator(options)), watching() as launches:
        out = moe(x, experts, routing, **rest)
        mx.eval(out)
    least = GATHERED_BELOW if variant.form == "dense" else TILED_FROM
    many = rows * variant.k >= least * variant.count
    names = [launch.source.name for launch in launches]
    assert names == ([*PREFILL, "moe_combine"] if many else DECODE)
    assert out.dtype == variant.dtype and out.shape == x.shape
    oracle = definition(x, experts, routing, **rest)
    assert largest(out.astype(F) - oracle) <= TOLERANCE[variant.dtype] * largest(oracle)


def crowded(rows: int, variant: Variant) -> tuple[mx.array, mx.array]:
    """Most pairs have the last expert, one has the first, and the others none."""
    chosen = np.full((rows, variant.k), variant.count - 1, np.int32)
    chosen[rows // 2, 0] = 0
    return mx.array(chosen), routed(rows, variant.count, variant.k)[1]


def check_bytes() -> None:
    """Each scale and bias of a group is read once, though the group takes several steps."""
    experts, (x, _) = experts_of(MANY[1]), operands(MANY[1], 12)
    with using(Simulator(SimulatorOptions("count"))), watching() as launches:
        mx.eval(moe(x, experts, routed(12, MANY[1].count, MANY[1].k)))
    _, inner, outer, _ = (launch.report for launch in launches)
    assert inner is not None and outer is not None
    names = [(inner, f"{part}_{kind}") for part in ("gate", "up") for kind in ("scales", "biases")]
    for report, name in [*names, (outer, "scales"), (outer, "biases")]:
        flow = report.buffer(name)
        assert flow.moved == flow.unique == flow.size


def cases() -> list[Case]:
    """Return a few cases that together notice a fault."""
    few = (("plain", FEW[0], 5), ("all", FEW[3], 4), ("wide", FEW[2], 2), ("opened", FEW[1], 3))
    decode = [
        Case(name, "moe_decode.metal", lambda variant=variant, rows=rows: expect(variant, rows))
        for name, variant, rows in few
    ]
    prefill = [
        Case(f"tiles_{rows}", "moe_prefill.metal", lambda v=variant, rows=rows: expect(v, rows))
        for variant, rows in ((MANY[0], 37), (MANY[1], 50))
    ]
    crowded_case = Case(
        "crowded",
        "moe_prefill.metal",
        lambda: expect(MANY[0], 37, routing=crowded(37, MANY[0])),
    )
    return [*decode, *prefill, crowded_case, Case("bytes", "moe_prefill.metal", check_bytes)]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_case(case: Case) -> None:
    case.run()


@pytest.mark.parametrize("variant", FEW, ids=str)
def test_a_few_tokens(variant: Variant) -> None:
    for rows in (-(-8 // variant.k), 15 // variant.k):
        expect(variant, rows)


def test_one_token() -> None:
    """Arrays of fewer than 8 elements are constants, which is another kernel."""
    expect(FEW[0], 1)
    expect(FEW[0], 3)


@pytest.mark.parametrize("variant", MANY[:3], ids=str)
def test_many_tokens(variant: Variant) -> None:
    for each in (TILED_FROM, 6, 48):  # the least of each tile
        expect(variant, -(-each * variant.count // variant.k))
    expect(variant, 65, routing=crowded(65, variant))


@pytest.mark.parametrize("variant", MANY[3:], ids=str)
def test_many_tokens_of_other_storage(variant: Variant) -> None:
    expect(variant, 13)


@pytest.mark.long
@pytest.mark.parametrize("variant", OTHERS, ids=str)
def test_every_storage(variant: Variant) -> None:
    expect(variant, 3)
    expect(replace(variant, shared=0, norm=None), 40)


def test_down_is_stored_in_its_own_way() -> None:
    """As in llama.cpp's Q4_K_M, whose `down` is Q6_K in every other layer."""
    variant = replace(FEW[7], shared=256)
    experts = experts_of(variant)
    finer = experts_of(replace(variant, form="q6_k", group=16))
    assert experts.shared is not None and finer.shared is not None
    shared = replace(experts.shared, down=finer.shared.down)
    experts = replace(experts, down=finer.down, shared=shared)
    for rows, kernels in ((3, DECODE), (13, [*DECODE_SHARED, *PREFILL, "moe_combine"])):
        (x, rest), routing = operands(variant, rows), routed(rows, variant.count, variant.k)
        with using(Simulator(CHECK)), watching() as launches:
            out = moe(x, experts, routing, **rest)
            mx.eval(out)
        assert sorted(launch.source.name for launch in launches) == sorted(kernels)
        oracle = definition(x, experts, routing, **rest)
        assert largest(out.astype(F) - oracle) <= 2 * TOLERANCE[F] * largest(oracle)


def test_experts_that_are_not_alike_run_apart() -> None:
    """A shared expert of other storage goes through products of its own."""
    variant = replace(FEW[1], count=20, sigmoid_gate=False)
    experts = experts_of(variant)
    assert experts.shared is not None
    both = matrix(replace(variant, form="dense"), 2 * variant.shared, variant.hidden, 7)
    experts = replace(experts, shared=replace(experts.shared, gate_up=both))
    (x, rest), routing = operands(variant, 12), routed(12, 20, variant.k)
    with using(Simulator(CHECK)), watching() as launches:
        out = moe(x, experts, routing, **rest)
    names = [launch.source.name for launch in launches]
    assert names[-2:] == DECODE
    oracle = definition(x, experts, routing, **rest)
    assert largest(out.astype(F) - oracle) <= 4 * TOLERANCE[H] * largest(oracle)


def test_many_tokens_and_a_shared_expert() -> None:
    variant = replace(MANY[0], shared=64, sigmoid_gate=True)
    experts, (x, rest) = experts_of(variant), operands(variant, 37)
    routing = routed(37, variant.count, variant.k)
    with using(Simulator(CHECK)), watching() as launches:
        out = moe(x, experts, routing, **rest)
        mx.eval(out)
    names = [launch.source.name for launch in launches]
    assert names == ["activation", *PREFILL, "moe_combine"]
    oracle = definition(x, experts, routing, **rest)
    assert largest(out - oracle) <= TOLERANCE[F] * largest(oracle)


@pytest.mark.parametrize(
    "options",
    [SimulatorOptions("check", contract=True), SimulatorOptions("check", order="reverse")],
    ids=str,
)
def test_contraction_and_order_do_not_matter(options: SimulatorOptions) -> None:
    expect(FEW[0], 5, options)
    expect(MANY[0], 37, options)


def test_a_token_does_not_depend_on_the_others() -> None:
    experts, (x, rest) = experts_of(FEW[0]), operands(FEW[0], 7)
    chosen, weights = routed(7, FEW[0].count, FEW[0].k)
    with using(Simulator(CHECK)):
        oracle = np.array(moe(x, experts, (chosen, weights), rest["residual"]))
        part = slice(2, 6)
        alone = moe(x[part], experts, (chosen[part], weights[part]), rest["residual"][part])
        assert (np.array(alone) == oracle[part]).all()


def test_a_broken_token_shows_and_stays_alone() -> None:
    for variant, rows in ((FEW[0], 8), (MANY[0], 37)):
        experts, (x, rest) = experts_of(variant), operands(variant, rows)
        chosen, weights = routed(rows, variant.count, variant.k)
        with using(Simulator(CHECK)):
            sound = np.array(moe(x, experts, (chosen, weights), **rest))
            x[2, 5], weights[7] = mx.nan, mx.nan
            out = np.array(moe(x, experts, (chosen, weights), **rest))
        assert np.isnan(out[[2, 7]]).all()
        assert (np.delete(out, [2, 7], axis=0) == np.delete(sound, [2, 7], axis=0)).all()


def test_a_few_tokens_read_each_chosen_row_once() -> None:
    variant = Variant(4, 64, H, H, 6, 640, 128, 6, 128)
    experts, (x, _) = experts_of(variant), operands(variant, 1)
    chosen = mx.array([[3, 0, 5, 1, 4, 2]], mx.int32)
    with using(Simulator(SimulatorOptions("count"))), watching() as launches:
        mx.eval(moe(x, experts, (chosen, mx.ones((1, 6)))))
    inner, outer = (launch.report for launch in launches)
    assert inner is not None and outer is not None
    kinds = ("", "_scales", "_biases")
    names = [(inner, f"{part}{kind}") for part in ("gate", "up", "shared") for kind in kinds]
    names += [(outer, f"shared{kind}") for kind in kinds]
    for report, name in [*names, (outer, "down"), (outer, "scales"), (outer, "biases")]:
        flow = report.buffer(name)
        assert flow.moved == flow.unique == flow.size


def test_many_tokens_read_an_expert_once_a_tile() -> None:
    """They read at most a quarter of what pairs by themselves would, at a model's ratios."""
    variant = Variant(4, 32, H, H, 64, 64, 32, 6)
    experts, (x, _) = experts_of(variant), operands(variant, 481)
    random = np.random.RandomState(0)
    chosen = np.stack([random.permutation(64)[:6] for _ in range(481)]).astype(np.int32)
    with using(Simulator(SimulatorOptions("count"))), watching() as launches:
        mx.eval(moe(x, experts, (mx.array(chosen), mx.ones((481, 6)))))
    _, inner, outer, _ = (launch.report for launch in launches)
    assert inner is not None and outer is not None
    tiles = -(-np.bincount(chosen.reshape(-1), minlength=64) // tile_of(481 * 6 // 64))
    for report, name in ((inner, "gate"), (inner, "up"), (outer, "down")):
        flow = report.buffer(name)
        assert flow.moved == int(tiles.sum()) * flow.size // 64
        assert 4 * flow.moved <= chosen.size * flow.size // 64


def test_the_way_taken() -> None:
    few, dense = experts_of(FEW[0]), experts_of(FEW[3])
    x, count = mx.zeros((1, 64), H), FEW[0].count
    numbers = (1, TILED_FROM * count - 1, TILED_FROM * count, TILED_BELOW * count)
    ways = [way(x, few, mx.zeros((pairs, 1), mx.int32)) for pairs in numbers]
    assert ways == [Way.GATHERED, Way.GATHERED, Way.TILED, Way.MLX]
    many = mx.zeros((GATHERED_BELOW * dense.count, 1), mx.int32)
    assert way(x, dense, many[:-1]) == Way.GATHERED and way(x, dense, many) == Way.MLX
    assert way(x, few, mx.zeros((0, 1), mx.int32)) == Way.MLX
    assert way(x.astype(mx.int32), few, many) == Way.MLX
    assert way(x, replace(few, up=dense.up), many[:1]) == Way.MLX
    other = replace(few, down=dense.down)  # a launch of its own
    assert way(x, other, many[:1]) == Way.GATHERED
    assert way(x, other, mx.zeros((GATHERED_BELOW * count, 1), mx.int32)) == Way.MLX
    foreign = experts_of(MANY[4])  # MLX would restore all of its experts
    most = mx.zeros((TILED_BELOW * foreign.count, 1), mx.int32)
    assert way(x, foreign, most) == Way.TILED
    too_many = replace(foreign, count=MAX_EXPERTS + 1)
    assert way(x, too_many, mx.zeros((TILED_FROM * too_many.count, 1), mx.int32)) == Way.GATHERED
    vast = replace(few, count=MAX_EXPERTS + 1)
    assert way(x, vast, mx.zeros((GATHERED_BELOW * vast.count, 1), mx.int32)) == Way.MLX
    wide = replace(few, count=MAX_EXPERTS)
    assert way(x, wide, mx.zeros((MAX_PAIRS + 1, 1), mx.int32)) == Way.MLX


def test_more_tokens_than_tiles_are_for_are_composed() -> None:
    experts, routing = experts_of(MANY[0]), routed(TILED_BELOW * 4, 4, 2)
    x, rest = operands(MANY[0], TILED_BELOW * 4)
    with using(Simulator(CHECK)), watching() as launches:
        out = moe(x, experts, routing, **rest)
        assert [launch.source.name for launch in launches] == ["activation"]
        assert (out == moe_mlx(x, experts, routing, **rest)).all()
        tiled = moe_tiled(x, experts, routing, **rest)
    assert largest(tiled - out) <= TOLERANCE[F] * largest(out)
