"""The router and the sort by expert on Metal, in the simulator's check mode."""

from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.linear.weight import Quantized, Weight
from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching
from bessemer.kernels.moe.route import (
    MAX_FUSED,
    Gate,
    Routing,
    choose,
    choose_reference,
    route,
    route_reference,
    sorted_pairs,
)
from bessemer.kernels.norm.rms_norm import Norm

from ..arrays import dense, normal, quantized
from ..metal_cases import Case

F, H, B = mx.float32, mx.float16, mx.bfloat16
CHECK = SimulatorOptions("check")
# Weights are float32 from float32 logits whatever the dtype of x; against the largest weight.
TOLERANCE = 1e-5
CLOSE = 1e-6  # of experts whose scores differ by less, either may be chosen

SOFTMAX = Routing(2)
ROUTERS = (
    (4, Routing(2)),
    (4, Routing(4, "sigmoid", True, 0.5)),
    (60, Routing(4, normalise=False)),
    (60, Routing(1, "sigmoid", normalise=False)),
    (60, Routing(16, "sigmoid", normalise=False, scale=3.0)),
    (60, Routing(3, groups=20, kept_groups=2, group_score="best_two")),
    (256, Routing(8, "sigmoid", True, 2.5, 8, 4, "best_two")),
    (256, Routing(6, normalise=False, scale=16.0, groups=8, kept_groups=3)),
    (256, Routing(2, groups=32, kept_groups=31, group_score="best_two")),
)


@dataclass(frozen=True, slots=True)
class Variant:
    """A case that `choose` is compiled for; forms are bits, or another storage."""

    experts: int
    hidden: int
    form: int | str
    group: int
    dtype: mx.Dtype
    stored: mx.Dtype
    norm: mx.Dtype | None = None


# Each pair of dtypes and of storage and norm; hidden sizes around a turn of all lanes.
VARIANTS = (
    Variant(8, 128, 8, 64, B, H, F),
    Variant(64, 2048, "dense", 32, B, B, B),
    Variant(67, 264, "dense", 32, H, F, H),
    Variant(128, 96, 4, 32, H, B),
)
OTHERS = (  # behind the mark `long`
    Variant(60, 40, "dense", 32, F, H),
    Variant(60, 640, 8, 128, B, F, F),
    Variant(256, 64, 4, 64, H, H),
    Variant(512, 64, 5, 32, F, F, H),
)
PLAIN = Variant(21, 1024, 4, 64, F, H, F)
PLAIN_ROUTER = Routing(3, "sigmoid", True, 1.5, 3, 2, "best_two")


def weight_of(variant: Variant) -> Weight:
    if variant.form == "dense":
        return dense(variant.experts, variant.hidden, variant.stored)
    shape = (variant.experts, variant.hidden)
    return quantized(*shape, variant.group, int(variant.form), variant.stored)


def compare(
    out: tuple[mx.array, mx.array], oracle: tuple[mx.array, mx.array], scores: mx.array
) -> None:
    """Assert the same experts, but for those whose scores all but tie, with the same weights."""
    indices, weights = (np.array(each) for each in out)
    oracle_indices, oracle_weights = (np.array(each) for each in oracle)
    assert indices.dtype == np.int32 and weights.dtype == np.float32
    assert indices.shape == oracle_indices.shape and weights.shape == oracle_indices.shape
    taken, due = (
        np.take_along_axis(np.array(scores), each, 1) for each in (indices, oracle_indices)
    )
    assert np.abs(taken - due)[indices != oracle_indices].max(initial=0) < CLOSE
    assert all(len(set(row)) == len(row) for row in indices.tolist())
    assert np.abs(weights - oracle_weights).max() <= TOLERANCE * np.abs(oracle_weights).max()


def expect_choice(
    variant: Variant,
    router: Routing,
    tokens: int,
    corrected: bool,
    options: SimulatorOptions = CHECK,
) -> None:
    x = (normal(tokens, variant.hidden) / variant.hidden**0.5).astype(variant.dtype)
    weight = weight_of(variant)
    correction = normal(variant.experts, seed=5) * 0.1 if corrected else None
    norm = wide = None
    if variant.norm is not None:
        factors = normal(variant.hidden, seed=3) / variant.hidden**0.5
        norm = Norm(factors.astype(variant.norm), 1e-3)
        wide = Norm(norm.weight.astype(F), norm.eps)
    with using(Simulator(options)), watching() as launches:
        out = choose(x, Gate(weight, None, correction), router, norm)
        mx.eval(out)
    assert [launch.source.name for launch in launches] == ["choose"]
    oracle = choose_reference(x.astype(F), Gate(weight, None, correction), router, wide)
    everything = replace(router, k=variant.experts, normalise=False, groups=1)
    places, scores = choose_reference(x.astype(F), Gate(weight), everything, wide)
    compare(out, oracle, mx.take_along_axis(scores, mx.argsort(places, axis=1), 1))


def expect_route(
    logits: mx.array,
    router: Routing,
    correction: mx.array | None = None,
    options: SimulatorOptions = CHECK,
) -> None:
    with using(Simulator(options)), watching() as launches:
        out = route(logits, router, correction)
        mx.eval(out)
    assert [launch.source.name for launch in launches] == ["route"]
    compare(out, route_reference(logits, router, correction), logits)


def expect_sorted(
    indices: np.ndarray, experts: int, tile: int, options: SimulatorOptions = CHECK
) -> None:
    """Assert order and offsets to the bit, and a tile for each `tile` pairs of an expert."""
    chosen = mx.array(indices.astype(np.int32))
    with using(Simulator(options)):
        out = [np.array(each) for each in sorted_pairs(chosen, experts, tile)]
    flat = indices.reshape(-1)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(flat, minlength=experts))]).tolist()
    assert (out[0] == np.argsort(flat, kind="stable")).all() and out[1].tolist() == offsets
    starts, stops = offsets[:-1], offsets[1:]
    tiles = [
        [expert, first]
        for expert, (begin, end) in enumerate(zip(starts, stops, strict=True))
        for first in range(begin, end, tile)
    ]
    assert out[2][0] == len(tiles)
    assert out[2][1 : 1 + 2 * len(tiles)].reshape(-1, 2).tolist() == tiles


def check_nan() -> None:
    """Whatever the router, a NaN shows in all of its token's weights and in no others."""
    logits = normal(4, 60)
    sound = mx.array(logits)
    logits[1, 7], logits[2, 59] = mx.nan, mx.inf
    for router in (Routing(4), Routing(4, "sigmoid", groups=4, kept_groups=2)):
        with using(Simulator(CHECK)):
            indices, weights = route(logits, router)
            before = route(sound, router)
        rows = mx.isnan(weights).all(axis=-1).tolist()
        assert rows == [False, True, router.scoring == "softmax", False]
        for row in np.array(indices).tolist():
            assert len(set(row)) == 4 and min(row) >= 0 and max(row) < 60
        for row in (0, 3):
            assert (np.array(weights)[row] == np.array(before[1])[row]).all()


def check_ties() -> None:
    """The first of equals is taken."""
    with using(Simulator(CHECK)):
        indices, weights = route(mx.zeros((3, 60)), Routing(3))
        grouped = route(mx.zeros((1, 60)), Routing(3, groups=30, kept_groups=2))
    assert indices.tolist() == [[0, 1, 2]] * 3 and grouped[0].tolist() == [[0, 1, 2]]
    assert np.array(weights)[0].tolist() == pytest.approx([1 / 3] * 3)


def check_huge() -> None:
    """Huge logits do not overflow."""
    logits = mx.full((1, 60), -3e38)
    logits[0, 3], logits[0, 50] = 3000.0, 2999.0
    with using(Simulator(CHECK)):
        indices, weights = route(logits, Routing(2))
    assert indices.tolist() == [[3, 50]]
    assert np.array(weights)[0].tolist() == pytest.approx([0.7310586, 0.2689414])


def check_bytes() -> None:
    """The router's weight is read once."""
    weight = weight_of(VARIANTS[3])
    assert isinstance(weight, Quantized)
    with using(Simulator(SimulatorOptions("count"))), watching() as launches:
        mx.eval(choose(normal(1, 96).astype(H), Gate(weight), SOFTMAX))
    (launch,) = launches
    assert launch.report is not None
    for name in ("weight", "scales", "biases"):
        flow = launch.report.buffer(name)
        assert flow.moved == flow.unique == flow.size


def picks(tokens: int, k: int, experts: int) -> np.ndarray:
    return np.random.RandomState(tokens).randint(0, experts, (tokens, k))


def cases() -> list[Case]:
    """Return a few cases that together notice a fault."""
    logits = normal(3, 60)
    pairs = Routing(3, groups=20, kept_groups=2, group_score="best_two")
    each = Routing(2, groups=4, kept_groups=2, group_score="best_two")
    sunk = normal(60, seed=1) * 0.1 - 2  # below what is no expert
    return [
        Case("choose", "route.metal", lambda: expect_choice(PLAIN, PLAIN_ROUTER, 2, True)),
        Case("dense", "route.metal", lambda: expect_choice(VARIANTS[2], SOFTMAX, 2, False)),
        Case("groups", "route.metal", lambda: expect_route(logits, pairs)),
        Case("sunk", "route.metal", lambda: expect_route(logits, replace(pairs, groups=3), sunk)),
        Case("single", "route.metal", lambda: expect_route(normal(9, 4), each)),
        Case("ties", "route.metal", check_ties),
        Case("huge", "route.metal", check_huge),
        Case("bytes", "route.metal", check_bytes),
        Case("plain", "route.metal", lambda: expect_route(logits, Routing(16, normalise=False))),
        Case("nan", "route.metal", check_nan),
        Case("sort", "moe_sort.metal", lambda: expect_sorted(picks(411, 3, 65), 65, 8)),
        Case("short", "moe_sort.metal", lambda: expect_sorted(picks(9, 4, 300), 300, 2)),
    ]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_case(case: Case) -> None:
    case.run()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_storage(variant: Variant) -> None:
    router = Routing(min(8, variant.experts))
    for tokens, corrected in ((1, False), (3, True)):
        expect_choice(variant, router, tokens, corrected)
    expect_choice(variant, Routing(2, "sigmoid", normalise=False), 2, False)


@pytest.mark.long
@pytest.mark.parametrize("variant", OTHERS, ids=str)
def test_more_storages(variant: Variant) -> None:
    expect_choice(variant, Routing(8), 3, True)
    expect_route(normal(9, variant.experts).astype(variant.dtype).astype(F), Routing(8))


@pytest.mark.parametrize(("experts", "router"), ROUTERS)
@pytest.mark.parametrize("corrected", [False, True])
def test_routers(experts: int, router: Routing, corrected: bool) -> None:
    correction = normal(experts, seed=5) * 0.1 if corrected else None
    expect_route(normal(9, experts) * 2, router, correction)


def test_a_correction_changes_the_choice_alone() -> None:
    with using(Simulator(CHECK)):
        raised = mx.zeros((60,))
        raised[9] = 5.0
        indices, weights = route(mx.zeros((1, 60)), Routing(2, normalise=False), raised)
    assert indices.tolist() == [[9, 0]]
    assert np.array(weights)[0].tolist() == pytest.approx([1 / 60] * 2)


def test_many_tokens_share_a_product() -> None:
    x, weight, router = normal(MAX_FUSED + 1, 256), dense(60, 256), Routing(4, scale=3.0)
    with using(Simulator(CHECK)), watching() as launches:
        out = choose(x, Gate(weight), router)
        mx.eval(out)
    assert [launch.source.name for launch in launches] == ["route"]
    compare(out, choose_reference(x, Gate(weight), router), x @ weight.weight.T)


def test_a_token_does_not_depend_on_the_others() -> None:
    x, weight, norm = normal(5, 1024), weight_of(PLAIN), Norm(normal(1024, seed=3), 1e-3)
    with using(Simulator(CHECK)):
        indices, weights = choose(x, Gate(weight), PLAIN_ROUTER, norm)
        alone = choose(x[3:4], Gate(weight), PLAIN_ROUTER, norm)
    assert (np.array(alone[0]) == np.array(indices)[3:4]).all()
    assert (np.array(alone[1]) == np.array(weights)[3:4]).all()


@pytest.mark.parametrize(
    "options",
    [SimulatorOptions("check", contract=True), SimulatorOptions("check", order="reverse")],
    ids=str,
)
def test_contraction_and_order_do_not_matter(options: SimulatorOptions) -> None:
    expect_choice(PLAIN, PLAIN_ROUTER, 2, True, options)
    if options.order == "reverse":  # it has no numbers to contract
        expect_sorted(picks(411, 3, 65), 65, 8, options)


@pytest.mark.parametrize(
    ("tokens", "k", "experts", "tile"),
    [
        (1, 1, 4, 1),
        (1, 8, 65, 32),
        (50, 2, 300, 5),
        (481, 6, 65, 32),
        (70, 1, 4, 32),
        (64, 8, 65, 64),
    ],
)
def test_sort(tokens: int, k: int, experts: int, tile: int) -> None:
    expect_sorted(picks(tokens, k, experts), experts, tile)


def test_sort_with_one_expert_for_all_and_with_none_for_most() -> None:
    expect_sorted(np.full((90, 2), 64), 65, 32)
    expect_sorted(np.array([[0, 64], [64, 0], [3, 64]] * 30), 65, 32)
