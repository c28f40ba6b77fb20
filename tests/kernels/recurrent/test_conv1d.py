"""The causal convolution against its definition, numpy's, and itself in other chunks."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.recurrent.conv1d import Convolution, conv1d, conv1d_reference
from bessemer.kernels.recurrent.runs import Runs

from ..arrays import close, normal, same
from ..tiers import PATHS, use


@pytest.fixture(params=PATHS, autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, request.param)


def copied(state: mx.array) -> mx.array:
    return mx.array(np.array(state))


@pytest.mark.parametrize("channels", [1, 5, 16, 37, 1100])
@pytest.mark.parametrize("width", [2, 4, 8])
@pytest.mark.parametrize("silu", [False, True])
def test_against_the_definition(channels: int, width: int, silu: bool) -> None:
    runs = Runs.of([1, 9, 3], [4, 0, 2], [False, True, False])
    x, weight = normal(13, channels), normal(width, channels, seed=1)
    bias = normal(channels, seed=2) if silu else None
    state = normal(5, width - 1, channels, seed=3)
    oracle, oracle_state = conv1d_reference(x, Convolution(weight, bias, silu), state, runs)
    out, out_state = conv1d(x, Convolution(weight, bias, silu), copied(state), runs)
    assert close(out, oracle) and same(out_state, oracle_state)


def test_numpy_says_the_same() -> None:
    x, weight = normal(20, 3), normal(4, 3, seed=1)
    runs = Runs.of([20], [0], [True])
    out, _ = conv1d(x, Convolution(weight, silu=False), mx.full((1, 3, 3), mx.nan), runs)
    for channel in range(3):
        kernel = np.array(weight)[::-1, channel]
        oracle = np.convolve(np.array(x)[:, channel], kernel)[:20]
        assert np.array(out)[:, channel] == pytest.approx(oracle, abs=1e-5)


@pytest.mark.parametrize("chunks", [[12], [1] * 12, [2, 7, 3], [11, 1]])
def test_chunks_and_neighbours_change_no_bit(chunks: list[int]) -> None:
    x, weight, bias = normal(12, 50), normal(4, 50, seed=1), normal(50, seed=2)
    other = normal(12, 50, seed=9)
    oracle, last = conv1d(
        x, Convolution(weight, bias), mx.zeros((3, 3, 50)), Runs.of([12], [1], [True])
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


def test_nan_stays_in_its_sequence() -> None:
    x = normal(4, 20)
    x[0, 3] = mx.nan
    runs = Runs.of([2, 2], [0, 1], [True, True])
    out, _ = conv1d(x, Convolution(normal(4, 20, seed=1)), mx.zeros((2, 3, 20)), runs)
    assert mx.isnan(out).any(axis=-1).tolist() == [True, True, False, False]
