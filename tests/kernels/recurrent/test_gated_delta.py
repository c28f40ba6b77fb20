"""The gated delta rule against transformers, its definition, and itself in other chunks."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.recurrent.gated_delta import Rule, gated_delta, gated_delta_reference
from bessemer.kernels.recurrent.runs import Runs

from ..arrays import close, normal, same
from ..tiers import PATHS, use

Arrays = tuple[mx.array, mx.array, mx.array, mx.array, mx.array]
GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "gated_delta.npz")


@pytest.fixture(params=PATHS, autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, request.param)


def inputs(rows: int, key_heads: int, heads: int, key_dim: int, value_dim: int) -> Arrays:
    return (
        normal(rows, key_heads, key_dim, seed=1),
        normal(rows, key_heads, key_dim, seed=2),
        normal(rows, heads, value_dim, seed=3),
        -mx.abs(normal(rows, heads, seed=4)),
        mx.sigmoid(normal(rows, heads, seed=5)),
    )


def reversed_rows(arrays: Arrays) -> Arrays:
    q, k, v, g, beta = (mx.array(np.array(x)[::-1].copy()) for x in arrays)
    return q, k, v, g, beta


def between(mine: Arrays, others: Arrays, at: int, size: int) -> Arrays:
    """Two rows of others, `size` of mine, one of others."""
    q, k, v, g, beta = (
        mx.concatenate([b[:2], a[at : at + size], b[:1]], axis=0)
        for a, b in zip(mine, others, strict=True)
    )
    return q, k, v, g, beta


def copied(state: mx.array) -> mx.array:
    return mx.array(np.array(state))


def test_transformers_says_the_same() -> None:
    q, k, v, g, beta = (mx.array(GOLDEN[name]) for name in ("q", "k", "v", "g", "beta"))
    state = np.zeros((3, *GOLDEN["state"].shape), np.float32)
    state[2] = GOLDEN["state"]
    runs = Runs.of([len(GOLDEN["q"])], [2], [False])
    scale = GOLDEN["q"].shape[-1] ** -0.5
    out, last = gated_delta(q, k, v, (g, beta), mx.array(state), runs, Rule(scale))
    assert np.array(out) == pytest.approx(GOLDEN["out"], abs=1e-5)
    assert np.array(last)[2] == pytest.approx(GOLDEN["last"], abs=1e-5)
    assert not np.array(last)[:2].any()


@pytest.mark.parametrize(
    "dims", [(1, 1, 1, 1), (1, 2, 5, 7), (2, 4, 16, 64), (2, 2, 33, 70), (1, 1, 3, 100)]
)
@pytest.mark.parametrize("normalise", [False, True])
def test_against_the_definition(dims: tuple[int, int, int, int], normalise: bool) -> None:
    arrays = inputs(7, *dims)
    state = normal(4, dims[1], dims[2], dims[3], seed=6)
    runs = Runs.of([4, 1, 2], [3, 0, 1], [False, True, False])
    oracle, oracle_state = gated_delta_reference(
        *arrays[:3], arrays[3:], state, runs, Rule(0.3, normalise)
    )
    out, out_state = gated_delta(*arrays[:3], arrays[3:], copied(state), runs, Rule(0.3, normalise))
    assert close(out, oracle) and close(out_state, oracle_state)
    assert same(mx.contiguous(out_state[2]), mx.contiguous(state[2]))


@pytest.mark.parametrize("chunks", [[9], [1] * 9, [2, 4, 3], [8, 1]])
def test_chunks_and_neighbours_change_no_bit(chunks: list[int]) -> None:
    dims = (1, 2, 16, 40)
    mine = inputs(9, *dims)
    others = reversed_rows(mine)
    oracle, last = gated_delta(
        *mine[:3], mine[3:], mx.zeros((3, 2, 16, 40)), Runs.of([9], [1], [True]), Rule(0.25)
    )
    state, parts, at = mx.array(np.ones((3, 2, 16, 40), np.float32)), [], 0
    for size in chunks:
        step = between(mine, others, at, size)
        runs = Runs.of([2, size, 1], [0, 1, 2], [at == 0] * 3)
        y, state = gated_delta(*step[:3], step[3:], state, runs, Rule(0.25))
        parts.append(y[2 : 2 + size])
        at += size
    assert same(mx.concatenate(parts, axis=0), oracle)
    assert same(mx.contiguous(state[1]), mx.contiguous(last[1]))


def test_nan_stays_in_its_sequence() -> None:
    arrays = inputs(4, 1, 2, 8, 8)
    arrays[2][0, 0, 0] = mx.nan
    runs = Runs.of([2, 2], [0, 1], [True, True])
    out, state = gated_delta(*arrays[:3], arrays[3:], mx.zeros((2, 2, 8, 8)), runs, Rule(1.0))
    assert mx.isnan(out).any(axis=(1, 2)).tolist() == [True, True, False, False]
    assert mx.isnan(state).any(axis=(1, 2, 3)).tolist() == [True, False]


def test_no_tokens() -> None:
    arrays = inputs(0, 1, 2, 8, 8)
    out, _ = gated_delta(
        *arrays[:3], arrays[3:], mx.zeros((2, 2, 8, 8)), Runs.of([], [], []), Rule(1.0)
    )
    assert out.shape == (0, 2, 8)
