"""The selective scan against transformers, its definition, and itself in other chunks."""

import math
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.recurrent.runs import Runs
from bessemer.kernels.recurrent.ssm_scan import Scan, ssm_scan, ssm_scan_reference

from ..arrays import close, normal, same
from ..tiers import PATHS, use

Tokens = tuple[mx.array, mx.array, mx.array, mx.array]  # x, b, c, dt
Heads = tuple[mx.array, mx.array, mx.array]  # dt_bias, a, d
Dims = tuple[int, int, int, int]  # groups, heads, head_dim, state_dim
GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "ssm_scan.npz")
LIMITS = [(0.0, math.inf), (0.4, 1.2)]


@pytest.fixture(params=PATHS, autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, request.param)


def inputs(rows: int, dims: Dims) -> tuple[Tokens, Heads]:
    groups, heads, head_dim, state_dim = dims
    tokens = (
        normal(rows, heads, head_dim, seed=1),
        normal(rows, groups, state_dim, seed=2),
        normal(rows, groups, state_dim, seed=3),
        2 * normal(rows, heads, seed=4),
    )
    return tokens, (normal(heads, seed=5), -mx.exp(normal(heads, seed=6)), normal(heads, seed=7))


def joined(*parts: Tokens) -> Tokens:
    x, b, c, dt = (mx.concatenate(list(arrays)) for arrays in zip(*parts, strict=True))
    return x, b, c, dt


def rows_of(tokens: Tokens, start: int, stop: int) -> Tokens:
    x, b, c, dt = (each[start:stop] for each in tokens)
    return x, b, c, dt


def copied(state: mx.array) -> mx.array:
    return mx.array(np.array(state))


def test_transformers_says_the_same() -> None:
    names = ("x", "b", "c", "dt", "dt_bias", "a", "d")
    x, b, c, dt, dt_bias, a, d = (mx.array(GOLDEN[name]) for name in names)
    state = np.zeros((3, *GOLDEN["state"].shape), np.float32)
    state[2] = GOLDEN["state"]
    runs, (min_step, max_step) = Runs.of([len(x)], [2], [False]), GOLDEN["limits"].tolist()
    out, last = ssm_scan(
        x, b, c, dt, Scan(dt_bias, a, d, min_step, max_step), mx.array(state), runs
    )
    assert np.array(out) == pytest.approx(GOLDEN["out"], abs=1e-5)
    assert np.array(last)[2] == pytest.approx(GOLDEN["last"], abs=1e-5)
    assert not np.array(last)[:2].any()


@pytest.mark.parametrize(
    "dims",
    [(1, 1, 1, 1), (1, 2, 5, 7), (2, 4, 16, 64), (2, 2, 33, 70), (3, 6, 3, 100), (1, 3, 64, 128)],
)
@pytest.mark.parametrize(("min_step", "max_step"), LIMITS)
def test_against_the_definition(dims: Dims, min_step: float, max_step: float) -> None:
    """The longest run is longer than the tokens that the C kernel takes at once."""
    tokens, heads = inputs(23, dims)
    state = normal(5, *dims[1:], seed=8)
    runs = Runs.of([19, 1, 0, 3], [3, 0, 4, 1], [False, True, True, False])
    oracle, oracle_state = ssm_scan_reference(
        *tokens, Scan(*heads, min_step, max_step), state, runs
    )
    out, out_state = ssm_scan(*tokens, Scan(*heads, min_step, max_step), copied(state), runs)
    assert close(out, oracle) and close(out_state, oracle_state)
    assert same(mx.contiguous(out_state[2]), mx.contiguous(state[2]))
    assert not mx.any(out_state[4])


def test_a_step_has_all_digits_however_small_or_large() -> None:
    """softplus(-16) is 1e-7, which is two roundings of the 1 that it is added to."""
    dt, one, nothing = mx.array([[-16.0, 100.0]]), mx.ones((1, 2, 1)), mx.zeros((2,))
    state, runs = mx.zeros((1, 2, 1, 1)), Runs.of([1], [0], [True])
    _, state = ssm_scan(one, one, one, dt, Scan(nothing, nothing, nothing), state, runs)
    oracle = [math.log1p(math.exp(-16)), 100.0]
    assert state.reshape(-1).tolist() == pytest.approx(oracle, rel=1e-6)


def test_parts_of_a_projection() -> None:
    """A layer has them so: x, b and c are columns of what the convolution gives."""
    row, (dt, heads) = (
        normal(3, 2 * 8 + 2 * 16),
        (normal(3, 2, seed=4), inputs(3, (1, 2, 8, 16))[1]),
    )
    x, b, c = mx.split(row, [16, 32], axis=-1)
    x, b, c = x.reshape(3, 2, 8), b[:, None], c[:, None]
    state, runs = mx.zeros((1, 2, 8, 16)), Runs.of([3], [0], [False])
    oracle, _ = ssm_scan_reference(x, b, c, dt, Scan(*heads), copied(state), runs)
    assert close(ssm_scan(x, b, c, dt, Scan(*heads), state, runs)[0], oracle)


@pytest.mark.parametrize("chunks", [[19], [1] * 19, [2, 14, 3], [18, 1]])
def test_chunks_and_neighbours_change_no_bit(chunks: list[int]) -> None:
    dims = (1, 2, 14, 40)
    mine, heads = inputs(19, dims)
    others = rows_of(mine, 5, 8)
    oracle, last = ssm_scan(
        *mine, Scan(*heads), mx.zeros((3, *dims[1:])), Runs.of([19], [1], [True])
    )
    state, parts, at = mx.array(np.ones((3, *dims[1:]), np.float32)), [], 0
    for size in chunks:
        middle = rows_of(mine, at, at + size)
        step = joined(rows_of(others, 0, 2), middle, rows_of(others, 2, 3))
        runs = Runs.of([2, size, 1], [0, 1, 2], [at == 0] * 3)
        y, state = ssm_scan(*step, Scan(*heads), state, runs)
        parts.append(y[2 : 2 + size])
        at += size
    assert same(mx.concatenate(parts, axis=0), oracle)
    assert same(mx.contiguous(state[1]), mx.contiguous(last[1]))


@pytest.mark.parametrize("tensor", ["x", "dt"])
def test_nan_stays_in_its_sequence_and_a_fresh_one_sees_no_state(tensor: str) -> None:
    tokens, heads = inputs(4, (1, 2, 8, 8))
    tokens[0 if tensor == "x" else 3][0, 0] = mx.nan
    runs = Runs.of([2, 2], [0, 1], [True, True])
    out, state = ssm_scan(*tokens, Scan(*heads, 0.1, 2.0), mx.full((2, 2, 8, 8), mx.nan), runs)
    assert mx.isnan(out).any(axis=(1, 2)).tolist() == [True, True, False, False]
    assert mx.isnan(state).any(axis=(1, 2, 3)).tolist() == [True, False]


def test_no_tokens() -> None:
    tokens, heads = inputs(0, (1, 2, 8, 8))
    out, _ = ssm_scan(*tokens, Scan(*heads), mx.zeros((2, 2, 8, 8)), Runs.of([], [], []))
    assert out.shape == (0, 2, 8)
