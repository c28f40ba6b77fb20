"""The Metal convolution, simulated, against its definition and itself in other chunks."""

from functools import partial

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.recurrent.conv1d import STRETCH, Convolution, conv1d, conv1d_reference
from bessemer.kernels.recurrent.runs import Runs

from ..arrays import close, normal, same
from ..metal_cases import Case

CHECK = Simulator(SimulatorOptions(mode="check"))
TOLERANCES = {mx.float32: 2e-5, mx.float16: 2e-3, mx.bfloat16: 2e-2}
RAGGED = ([1, 2 * STRETCH + 1, STRETCH, 0, 3], [4, 0, 2, 5, 6], [False, True, False, False, True])
EVERY = ([2, 1], [0, 1], [False, True])  # every slot, in order


def copied(state: mx.array) -> mx.array:
    return mx.array(np.array(state))


def check(
    channels: int,
    width: int,
    dtype: mx.Dtype,
    biased: bool,
    silu: bool,
    spans: tuple[list[int], list[int], list[bool]] = RAGGED,
    simulator: Simulator = CHECK,
) -> None:
    runs = Runs.of(*spans)
    x = normal(sum(spans[0]), channels).astype(dtype)
    weight, bias = normal(width, channels, seed=1), normal(channels, seed=2) if biased else None
    state = normal(max(spans[1]) + 1, width - 1, channels, seed=3)
    wide = x.astype(mx.float32)
    oracle, oracle_state = conv1d_reference(
        wide, Convolution(weight, bias, silu), copied(state), runs
    )
    with using(simulator):
        out, out_state = conv1d(x, Convolution(weight, bias, silu), copied(state), runs)
    assert out.dtype == dtype
    assert close(out.astype(mx.float32), oracle, TOLERANCES[dtype])
    assert same(out_state, oracle_state)


@pytest.mark.parametrize(
    ("channels", "width", "dtype", "biased", "silu"),
    [
        *((1, 2, mx.float32, True, False), (3, 8, mx.float16, False, True)),
        *((300, 4, mx.bfloat16, False, True), (8, 4, mx.float32, True, True)),
        *((37, 4, mx.float16, True, True), (260, 3, mx.float32, False, False)),
        *((64, 2, mx.float16, False, True), (70, 8, mx.float32, True, True)),
    ],
)
def test_against_the_definition(
    channels: int, width: int, dtype: mx.Dtype, biased: bool, silu: bool
) -> None:
    check(channels, width, dtype, biased, silu)


@pytest.mark.parametrize("spans", [EVERY, ([1], [1], [False]), ([1], [0], [True])])
def test_a_step_of_few(spans: tuple[list[int], list[int], list[bool]]) -> None:
    check(8, 4, mx.float32, True, True, spans)


@pytest.mark.long
@pytest.mark.parametrize("channels", [1, 2, 4, 5, 33, 252, 256, 300])
@pytest.mark.parametrize("width", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("flag", [False, True])
def test_the_full_grid(channels: int, width: int, dtype: mx.Dtype, flag: bool) -> None:
    check(channels, width, dtype, flag, not flag)


@pytest.mark.parametrize("chunks", [[70], [1] * 6 + [64], [2, 65, 3]])
def test_chunks_and_neighbours_change_no_bit(chunks: list[int]) -> None:
    x, weight, bias = normal(70, 50), normal(4, 50, seed=1), normal(50, seed=2)
    other = normal(70, 50, seed=9)
    with using(CHECK):
        oracle, last = conv1d(
            x, Convolution(weight, bias), mx.zeros((3, 3, 50)), Runs.of([70], [1], [True])
        )
        state, parts, at = mx.array(np.ones((3, 3, 50), np.float32)), [], 0
        for size in chunks:
            step = mx.concatenate([other[:2], x[at : at + size], other[:1]], axis=0)
            runs = Runs.of([2, size, 1], [0, 1, 2], [at == 0] * 3)
            y, state = conv1d(step, Convolution(weight, bias), state, runs)
            parts.append(y[2 : 2 + size])
            at += size
    assert same(mx.concatenate(parts, axis=0), oracle)
    assert same(mx.contiguous(state[1]), mx.contiguous(last[1]))


def test_nan_stays_in_its_sequence_and_a_fresh_one_sees_no_state() -> None:
    x = normal(4, 20)
    x[0, 3] = mx.nan
    runs = Runs.of([2, 2], [0, 1], [True, True])
    with using(CHECK):
        out, _ = conv1d(x, Convolution(normal(4, 20, seed=1)), mx.full((2, 3, 20), mx.nan), runs)
    assert mx.isnan(out).any(axis=-1).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    "options", [SimulatorOptions("check", True), SimulatorOptions("check", False, "reverse")]
)
def test_contraction_and_order(options: SimulatorOptions) -> None:
    check(70, 4, mx.float32, True, True, simulator=Simulator(options))


def cases() -> list[Case]:
    runs = {
        "odd": partial(check, 37, 4, mx.float16, True, True),
        "even": partial(check, 260, 3, mx.float32, False, False),
    }
    return [Case(name, "conv1d.metal", run) for name, run in runs.items()]
