"""The Metal selective scan, simulated: transformers, its definition, itself in other chunks."""

import math
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching
from bessemer.kernels.recurrent.runs import Runs
from bessemer.kernels.recurrent.ssm_scan import Scan, ssm_scan, ssm_scan_reference

from ..arrays import close, normal, same
from ..metal_cases import Case

Tokens = tuple[mx.array, mx.array, mx.array, mx.array]  # x, b, c, dt
Heads = tuple[mx.array, mx.array, mx.array]  # dt_bias, a, d
Dims = tuple[int, int, int, int]  # groups, heads, head_dim, state_dim
Spans = tuple[list[int], list[int], list[bool]]
Limits = tuple[float, float]
GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "ssm_scan.npz")
CHECK = Simulator(SimulatorOptions(mode="check"))
TOLERANCES = {mx.float32: 2e-5, mx.float16: 2e-3, mx.bfloat16: 2e-2}
STATE_TOLERANCE = 2e-5  # float32 in every format
RAGGED: Spans = ([4, 1, 0, 3], [3, 0, 4, 1], [False, True, False, False])
FREE, NARROW = (0.0, math.inf), (0.4, 1.2)


def inputs(rows: int, dims: Dims, dtype: mx.Dtype = mx.float32) -> tuple[Tokens, Heads]:
    groups, heads, head_dim, state_dim = dims
    tokens = (
        normal(rows, heads, head_dim, seed=1).astype(dtype),
        normal(rows, groups, state_dim, seed=2).astype(dtype),
        normal(rows, groups, state_dim, seed=3).astype(dtype),
        2 * normal(rows, heads, seed=4).astype(dtype),
    )
    return tokens, (normal(heads, seed=5), -mx.exp(normal(heads, seed=6)), normal(heads, seed=7))


def copied(state: mx.array) -> mx.array:
    return mx.array(np.array(state))


def check(
    dims: Dims,
    dtype: mx.Dtype,
    limits: Limits = FREE,
    spans: Spans = RAGGED,
    simulator: Simulator = CHECK,
) -> None:
    tokens, heads = inputs(sum(spans[0]), dims, dtype)
    state, runs = normal(max(spans[1]) + 1, *dims[1:], seed=8), Runs.of(*spans)
    x, b, c, dt = (each.astype(mx.float32) for each in tokens)
    oracle, last = ssm_scan_reference(x, b, c, dt, Scan(*heads, *limits), copied(state), runs)
    with using(simulator):
        out, out_state = ssm_scan(*tokens, Scan(*heads, *limits), copied(state), runs)
    assert out.dtype == dtype
    assert close(out.astype(mx.float32), oracle, TOLERANCES[dtype])
    assert close(out_state, last, STATE_TOLERANCE)
    untouched = sorted(set(range(len(state))) - set(spans[1]))
    assert all(same(mx.contiguous(out_state[i]), mx.contiguous(state[i])) for i in untouched)


@pytest.mark.parametrize(
    ("dims", "dtype", "limits"),
    [
        ((1, 1, 1, 1), mx.float32, FREE),
        ((1, 2, 5, 7), mx.bfloat16, NARROW),
        ((2, 4, 16, 64), mx.float16, FREE),
        ((2, 2, 33, 70), mx.float32, NARROW),
        ((3, 6, 3, 100), mx.float16, FREE),
        ((1, 2, 20, 256), mx.bfloat16, FREE),
        ((2, 4, 64, 128), mx.bfloat16, NARROW),
    ],
)
def test_against_the_definition(dims: Dims, dtype: mx.Dtype, limits: Limits) -> None:
    check(dims, dtype, limits)


def test_transformers_says_the_same() -> None:
    names = ("x", "b", "c", "dt", "dt_bias", "a", "d")
    x, b, c, dt, dt_bias, a, d = (mx.array(GOLDEN[name]) for name in names)
    state = np.zeros((3, *GOLDEN["state"].shape), np.float32)
    state[2] = GOLDEN["state"]
    runs, (min_step, max_step) = Runs.of([len(x)], [2], [False]), GOLDEN["limits"].tolist()
    with using(CHECK):
        out, last = ssm_scan(
            x, b, c, dt, Scan(dt_bias, a, d, min_step, max_step), mx.array(state), runs
        )
    assert np.array(out) == pytest.approx(GOLDEN["out"], abs=1e-5)
    assert np.array(last)[2] == pytest.approx(GOLDEN["last"], abs=1e-5)
    assert not np.array(last)[:2].any()


@pytest.mark.long
@pytest.mark.parametrize("head_dim", [1, 4, 16, 20, 64, 70])
@pytest.mark.parametrize("state_dim", [1, 16, 31, 32, 64, 96, 128, 130, 256, 600])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("limits", [FREE, NARROW])
def test_the_full_grid(head_dim: int, state_dim: int, dtype: mx.Dtype, limits: Limits) -> None:
    check((2, 4, head_dim, state_dim), dtype, limits)


def test_a_step_has_all_digits_however_small_or_large() -> None:
    dt, one, nothing = mx.array([[-16.0, 100.0]]), mx.ones((1, 2, 1)), mx.zeros((2,))
    state, runs = mx.zeros((1, 2, 1, 1)), Runs.of([1], [0], [True])
    with using(CHECK):
        _, state = ssm_scan(one, one, one, dt, Scan(nothing, nothing, nothing), state, runs)
    oracle = [math.log1p(math.exp(-16)), 100.0]
    assert state.reshape(-1).tolist() == pytest.approx(oracle, rel=1e-6)


@pytest.mark.parametrize("chunks", [[1] * 9, [2, 4, 3], [8, 1]])
def test_chunks_and_neighbours_change_no_bit(chunks: list[int]) -> None:
    dims = (2, 4, 20, 64)
    (mine, heads), (others, _) = inputs(9, dims), inputs(3, dims)
    with using(CHECK):
        oracle, last = ssm_scan(
            *mine, Scan(*heads), mx.zeros((3, *dims[1:])), Runs.of([9], [1], [True])
        )
        state, parts, at = mx.array(np.ones((3, *dims[1:]), np.float32)), [], 0
        for size in chunks:
            joined = (
                mx.concatenate([b[:2], a[at : at + size], b[2:]], axis=0)
                for a, b in zip(mine, others, strict=True)
            )
            runs = Runs.of([2, size, 1], [0, 1, 2], [at == 0] * 3)
            x, b, c, dt = joined
            y, state = ssm_scan(x, b, c, dt, Scan(*heads), state, runs)
            parts.append(y[2 : 2 + size])
            at += size
    assert same(mx.concatenate(parts, axis=0), oracle)
    assert same(mx.contiguous(state[1]), mx.contiguous(last[1]))


@pytest.mark.parametrize("tensor", ["x", "dt"])
def test_nan_stays_in_its_sequence_and_a_fresh_one_sees_no_state(tensor: str) -> None:
    tokens, heads = inputs(4, (1, 2, 8, 8))
    tokens[0 if tensor == "x" else 3][0, 0] = mx.nan
    runs = Runs.of([2, 2], [0, 1], [True, True])
    with using(CHECK):
        out, state = ssm_scan(*tokens, Scan(*heads, 0.1, 2.0), mx.full((2, 2, 8, 8), mx.nan), runs)
    assert mx.isnan(out).any(axis=(1, 2)).tolist() == [True, True, False, False]
    assert mx.isnan(state).any(axis=(1, 2, 3)).tolist() == [True, False]


@pytest.mark.parametrize(
    "options", [SimulatorOptions("check", True), SimulatorOptions("check", False, "reverse")]
)
def test_contraction_and_order(options: SimulatorOptions) -> None:
    check((2, 4, 16, 64), mx.float16, simulator=Simulator(options))


def test_the_state_moves_once_each_way() -> None:
    dims, runs = (1, 4, 64, 128), Runs.of([1, 1], [0, 1], [False, False])
    (tokens, heads), state = inputs(2, dims, mx.float16), normal(2, *dims[1:])
    with using(Simulator(SimulatorOptions(mode="count"))), watching() as launches:
        mx.eval(ssm_scan(*tokens, Scan(*heads), state, runs))
    (report,) = [launch.report for launch in launches]
    assert report is not None
    min_bytes = 2 * state.nbytes + sum(x.nbytes for x in (*tokens, *heads)) + tokens[0].nbytes
    assert report.moved() <= 1.05 * min_bytes


def cases() -> list[Case]:
    runs = {
        "odd": partial(check, (2, 2, 33, 70), mx.float32, NARROW),
        "even": partial(check, (2, 4, 20, 64), mx.float16),
        "wide": partial(check, (1, 3, 10, 256), mx.bfloat16),
        "digits": test_a_step_has_all_digits_however_small_or_large,
        "fresh": partial(test_nan_stays_in_its_sequence_and_a_fresh_one_sees_no_state, "dt"),
    }
    return [Case(name, "ssm_scan.metal", run) for name, run in runs.items()]
