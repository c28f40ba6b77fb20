"""Routing against its definition and against transformers' routers, and the sort by expert."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.linear.weight import Dense
from bessemer.kernels.metal.device import Simulator, using
from bessemer.kernels.moe.route import (
    Gate,
    Routing,
    choose,
    choose_reference,
    route,
    route_reference,
)

from ..arrays import close, normal, same
from ..tiers import PATHS, use

GOLDEN = Path(__file__).parents[1] / "golden" / "route.npz"


@pytest.fixture(params=PATHS, autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, request.param)


ROUTERS = [
    (8, Routing(2)),
    (60, Routing(4, normalise=False)),
    (128, Routing(8)),
    (33, Routing(33)),
    (1, Routing(1)),
    (16, Routing(1, "sigmoid", normalise=False)),
    (160, Routing(6, normalise=False, scale=16.0, groups=8, kept_groups=3)),
    (256, Routing(8, "sigmoid", True, 2.5, 8, 4, "best_two")),
]
MIXERS = [
    (16, Routing(2, "sparsemixer", normalise=False)),
    (33, Routing(3, "sparsemixer", scale=2.0, jitter=0.2)),
    (2, Routing(2, "sparsemixer", normalise=False, jitter=0.0)),
]


def golden(name: str) -> tuple[mx.array, ...]:
    with np.load(GOLDEN) as out:
        return tuple(mx.array(out[key]) for key in out if key.startswith(name))


def in_order(indices: mx.array, weights: mx.array) -> list[list[tuple[int, float]]]:
    """Return each token's experts by number: two ways to choose need not list them alike."""
    both = zip(np.array(indices).tolist(), np.array(weights).tolist(), strict=True)
    return [sorted(zip(*row, strict=True)) for row in both]


def check_golden(out: tuple[mx.array, mx.array], oracle: tuple[mx.array, mx.array]) -> None:
    for one, other in zip(in_order(*out), in_order(*oracle), strict=True):
        assert [expert for expert, _ in one] == [expert for expert, _ in other]
        assert [w for _, w in one] == pytest.approx([w for _, w in other], rel=1e-5)


@pytest.mark.parametrize(("experts", "router"), ROUTERS)
@pytest.mark.parametrize("corrected", [False, True])
def test_against_the_definition(experts: int, router: Routing, corrected: bool) -> None:
    logits = normal(70, experts) * 2
    correction = normal(experts, seed=5) * 0.1 if corrected else None
    indices, weights = route(logits, router, correction)
    oracle, oracle_weights = route_reference(logits, router, correction)
    assert indices.dtype == mx.int32 and same(indices, oracle)
    assert close(weights, oracle_weights)
    for i in range(0, 70, 9):
        alone = route(logits[i : i + 1], router, correction)
        assert same(alone[0], indices[i : i + 1]) and same(alone[1], weights[i : i + 1])


@pytest.mark.parametrize(("experts", "router"), MIXERS)
def test_a_sparse_mixer_against_the_definition(experts: int, router: Routing) -> None:
    logits = normal(70, experts) * 0.1 + 1
    logits[35:] = normal(35, experts)
    indices, weights = route(logits, router)
    oracle, oracle_weights = route_reference(logits, router)
    assert indices.dtype == mx.int32 and same(indices, oracle)
    assert close(weights, oracle_weights)
    with using(Simulator()):  # no kernel of Metal's: the definition, as on a GPU
        assert same(route(logits, router)[1], oracle_weights)
    alone = route(logits[4:5], router)
    assert same(alone[0], indices[4:5]) and same(alone[1], weights[4:5])


def test_transformers_sparse_mixer() -> None:
    indices, logits, weights = golden("phi")[1], golden("phi")[0], golden("phi")[2]
    out = route(logits, Routing(2, "sparsemixer", normalise=False))
    assert same(out[0], indices.astype(mx.int32))
    assert close(out[1], weights)
    assert np.unique(np.array(weights) < 0.9).tolist() == [False, True], "some are shared"


def test_transformers_groups_of_experts() -> None:
    """An expert outside the kept groups is never taken, however low the corrections are."""
    x, weight, correction, indices, weights = golden("deepseek")
    router = Routing(4, "sigmoid", True, 2.5, 4, 2, "best_two")
    assert float(mx.max(mx.sigmoid(x @ weight.T) + correction)) < 0
    for function in (choose, choose_reference):
        check_golden(
            function(x, Gate(Dense(weight), correction=correction), router), (indices, weights)
        )
    with using(Simulator()):
        check_golden(
            choose(x, Gate(Dense(weight), correction=correction), router), (indices, weights)
        )


def test_transformers_router_with_a_bias() -> None:
    x, weight, bias, indices, weights = golden("gpt")
    out = choose(x, Gate(Dense(weight), bias), Routing(4))
    check_golden(out, (indices, weights))
    check_golden(choose_reference(x, Gate(Dense(weight), bias), Routing(4)), (indices, weights))
    assert not same(choose(x, Gate(Dense(weight)), Routing(4))[0], out[0])
    for rows in (3, 40):
        with using(Simulator()):
            on_metal = choose(x[:rows], Gate(Dense(weight), bias), Routing(4))
        check_golden(on_metal, (indices[:rows], weights[:rows]))


def test_deepseek_v3_by_hand() -> None:
    router = Routing(2, "sigmoid", True, 2.5, 2, 1, "best_two")
    logits = np.array([[2.0, -9.0, 1.0, 0.9]], np.float32)  # 0 is best, 2 and 3 the best pair
    indices, weights = route(mx.array(logits), router)
    scores = 1 / (1 + np.exp(-logits[0]))
    assert indices.tolist() == [[2, 3]]
    assert np.array(weights)[0].tolist() == pytest.approx(
        (scores[2:] / scores[2:].sum() * 2.5).tolist()
    )
    raised = mx.array([0.0, 5.0, 0.0, 0.0])
    indices, weights = route(mx.array(logits), router, raised)
    assert indices.tolist() == [[1, 0]]  # the choice is corrected, the weights are not
    assert np.array(weights)[0].tolist() == pytest.approx(
        (scores[[1, 0]] / scores[:2].sum() * 2.5).tolist()
    )


def test_of_equals_the_first_is_taken() -> None:
    indices, weights = route(mx.zeros((3, 20)), Routing(3))
    assert indices.tolist() == [[0, 1, 2]] * 3
    assert np.array(weights)[0].tolist() == pytest.approx([1 / 3] * 3)
    grouped = route(mx.zeros((1, 20)), Routing(3, groups=4, kept_groups=2))
    assert grouped[0].tolist() == [[0, 1, 2]]


def test_a_sparse_mixer_of_nan_and_infinities() -> None:
    router = Routing(2, "sparsemixer", normalise=False)
    indices, weights = route(mx.array([[1.0, mx.nan, 2], [1, -mx.inf, 2], [0, 0, 0]]), router)
    assert mx.isnan(weights).all(axis=-1).tolist() == [True, False, False]
    assert indices[1:].tolist() == [[2, 0], [0, 1]]
    oracle = [[1, 1], [1 / 3, 1 / 2]]
    assert np.array(weights)[1:].tolist() == [pytest.approx(row) for row in oracle]


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
def test_nan_is_seen_and_stays_in_its_row(scoring: str) -> None:
    logits = normal(3, 24)
    logits[1, 7] = mx.nan
    router = Routing(4, scoring, groups=4, kept_groups=2)  # type: ignore[arg-type]
    indices, weights = route(logits, router)
    assert mx.isnan(weights).all(axis=-1).tolist() == [False, True, False]
    assert len(set(np.array(indices)[1].tolist())) == 4 and min(np.array(indices)[1].tolist()) >= 0
    assert not mx.isnan(weights[0]).any()


def test_huge_logits_do_not_overflow() -> None:
    _, weights = route(mx.array([[3000.0, 0.0, 2999.0]]), Routing(2))
    assert np.array(weights)[0].tolist() == pytest.approx([0.7310586, 0.2689414])


def test_no_tokens() -> None:
    assert route(mx.zeros((0, 8)), Routing(2))[0].shape == (0, 2)
