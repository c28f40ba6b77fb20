"""The Metal gated delta rule, simulated: transformers, its definition, itself in other chunks."""

from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching
from bessemer.kernels.recurrent.gated_delta import Rule, gated_delta, gated_delta_reference
from bessemer.kernels.recurrent.runs import Runs

from ..arrays import close, normal, same
from ..metal_cases import Case

Arrays = tuple[mx.array, mx.array, mx.array, mx.array, mx.array]
Dims = tuple[int, int, int, int]  # key heads, heads, key_dim, value_dim
Spans = tuple[list[int], list[int], list[bool]]
GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "gated_delta.npz")
CHECK = Simulator(SimulatorOptions(mode="check"))
TOLERANCES = {mx.float32: 2e-5, mx.float16: 2e-3, mx.bfloat16: 2e-2}
STATE_TOLERANCE = 2e-5  # float32 in every format
RAGGED: Spans = ([4, 1, 0, 3], [3, 0, 4, 1], [False, True, False, False])


def inputs(rows: int, dims: Dims, dtype: mx.Dtype = mx.float32) -> Arrays:
    """The first row's key is so short that what is added to its length counts."""
    key_heads, heads, key_dim, value_dim = dims
    lengths = mx.where(mx.arange(rows) == 0, 1e-3, 1)[:, None, None]
    return (
        normal(rows, key_heads, key_dim, seed=1).astype(dtype),
        (normal(rows, key_heads, key_dim, seed=2) * lengths).astype(dtype),
        normal(rows, heads, value_dim, seed=3).astype(dtype),
        -mx.abs(normal(rows, heads, seed=4)),
        mx.sigmoid(normal(rows, heads, seed=5)),
    )


def copied(state: mx.array) -> mx.array:
    return mx.array(np.array(state))


def check(
    dims: Dims,
    dtype: mx.Dtype,
    normalise: bool,
    spans: Spans = RAGGED,
    simulator: Simulator = CHECK,
) -> None:
    arrays = inputs(sum(spans[0]), dims, dtype)
    state = normal(max(spans[1]) + 1, *dims[1:], seed=6)
    runs, scale = Runs.of(*spans), 0.3 if normalise else 0.3 / dims[2]
    wide: Arrays = tuple(x.astype(mx.float32) for x in arrays)  # type: ignore[assignment]
    if not normalise:  # keys longer than 1 make the state grow
        wide = (wide[0], wide[1] / dims[2], *wide[2:])
        arrays = (arrays[0], (arrays[1] / dims[2]).astype(dtype), *arrays[2:])
        wide = (wide[0], arrays[1].astype(mx.float32), *wide[2:])
    oracle, last = gated_delta_reference(
        *wide[:3], wide[3:], copied(state), runs, Rule(scale, normalise)
    )
    with using(simulator):
        out, out_state = gated_delta(
            *arrays[:3], arrays[3:], copied(state), runs, Rule(scale, normalise)
        )
    assert out.dtype == dtype
    assert close(out.astype(mx.float32), oracle, TOLERANCES[dtype])
    assert close(out_state, last, STATE_TOLERANCE)
    untouched = sorted(set(range(len(state))) - set(spans[1]))
    assert all(same(mx.contiguous(out_state[i]), mx.contiguous(state[i])) for i in untouched)


@pytest.mark.parametrize(
    ("dims", "dtype", "normalise"),
    [
        ((1, 1, 1, 1), mx.float32, True),
        ((1, 2, 5, 7), mx.bfloat16, False),
        ((2, 4, 16, 64), mx.float16, True),
        ((2, 2, 33, 70), mx.float32, True),
        ((1, 1, 3, 100), mx.float16, False),
        ((1, 3, 30, 12), mx.bfloat16, True),
        ((2, 4, 128, 128), mx.bfloat16, True),
    ],
)
def test_against_the_definition(dims: Dims, dtype: mx.Dtype, normalise: bool) -> None:
    check(dims, dtype, normalise)


def test_transformers_says_the_same() -> None:
    q, k, v, g, beta = (mx.array(GOLDEN[name]) for name in ("q", "k", "v", "g", "beta"))
    state = np.zeros((3, *GOLDEN["state"].shape), np.float32)
    state[2] = GOLDEN["state"]
    runs = Runs.of([len(GOLDEN["q"])], [2], [False])
    scale = GOLDEN["q"].shape[-1] ** -0.5
    with using(CHECK):
        out, last = gated_delta(q, k, v, (g, beta), mx.array(state), runs, Rule(scale))
    assert np.array(out) == pytest.approx(GOLDEN["out"], abs=1e-5)
    assert np.array(last)[2] == pytest.approx(GOLDEN["last"], abs=1e-5)
    assert not np.array(last)[:2].any()


@pytest.mark.long
@pytest.mark.parametrize("keys", [1, 8, 12, 31, 32, 64, 96, 128, 192])
@pytest.mark.parametrize("values", [1, 6, 16, 20, 65, 128])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("normalise", [False, True])
def test_the_full_grid(keys: int, values: int, dtype: mx.Dtype, normalise: bool) -> None:
    check((2, 4, keys, values), dtype, normalise)


@pytest.mark.parametrize("chunks", [[1] * 9, [2, 4, 3], [8, 1]])
def test_chunks_and_neighbours_change_no_bit(chunks: list[int]) -> None:
    dims = (2, 4, 16, 64)
    mine, others = inputs(9, dims), inputs(3, dims)
    with using(CHECK):
        oracle, last = gated_delta(
            *mine[:3], mine[3:], mx.zeros((3, 4, 16, 64)), Runs.of([9], [1], [True]), Rule(0.25)
        )
        state, parts, at = mx.array(np.ones((3, 4, 16, 64), np.float32)), [], 0
        for size in chunks:
            joined = (
                mx.concatenate([b[:2], a[at : at + size], b[2:]], axis=0)
                for a, b in zip(mine, others, strict=True)
            )
            runs = Runs.of([2, size, 1], [0, 1, 2], [at == 0] * 3)
            q, k, v, g, beta = joined
            y, state = gated_delta(q, k, v, (g, beta), state, runs, Rule(0.25))
            parts.append(y[2 : 2 + size])
            at += size
    assert same(mx.concatenate(parts, axis=0), oracle)
    assert same(mx.contiguous(state[1]), mx.contiguous(last[1]))


def test_nan_stays_in_its_sequence_and_a_fresh_one_sees_no_state() -> None:
    arrays = inputs(4, (1, 2, 8, 8))
    arrays[2][0, 0, 0] = mx.nan
    runs = Runs.of([2, 2], [0, 1], [True, True])
    with using(CHECK):
        out, state = gated_delta(
            *arrays[:3], arrays[3:], mx.full((2, 2, 8, 8), mx.nan), runs, Rule(1.0)
        )
    assert mx.isnan(out).any(axis=(1, 2)).tolist() == [True, True, False, False]
    assert mx.isnan(state).any(axis=(1, 2, 3)).tolist() == [True, False]


@pytest.mark.parametrize(
    "options", [SimulatorOptions("check", True), SimulatorOptions("check", False, "reverse")]
)
def test_contraction_and_order(options: SimulatorOptions) -> None:
    check((2, 4, 16, 64), mx.float16, True, simulator=Simulator(options))


def test_the_state_moves_once_each_way() -> None:
    dims, runs = (2, 4, 128, 128), Runs.of([1, 1], [0, 1], [False, False])
    arrays, state = inputs(2, dims, mx.float16), normal(2, *dims[1:])
    with using(Simulator(SimulatorOptions(mode="count"))), watching() as launches:
        mx.eval(gated_delta(*arrays[:3], arrays[3:], state, runs, Rule(1.0)))
    (report,) = [launch.report for launch in launches]
    assert report is not None
    min_bytes = 2 * state.nbytes + sum(x.nbytes for x in arrays) + arrays[2].nbytes
    assert report.moved() <= 1.05 * min_bytes


def cases() -> list[Case]:
    runs = {
        "odd": partial(check, (2, 2, 33, 70), mx.float32, True),
        "even": partial(check, (2, 4, 64, 20), mx.float16, False),
        "narrow": partial(check, (1, 3, 30, 12), mx.bfloat16, True),
        "fresh": test_nan_stays_in_its_sequence_and_a_fresh_one_sees_no_state,
    }
    return [Case(name, "gated_delta.metal", run) for name, run in runs.items()]
