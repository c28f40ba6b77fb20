"""States copied from slot to slot: all is read before any is written, and nothing else moves."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.recurrent.runs import Runs, States

SLOTS, WIDTH = 64, 1 << 16


def numbered() -> States:
    """Slot i holds i, and 100 + i."""
    column = np.arange(SLOTS, dtype=np.float32)[:, None]
    arrays = tuple(mx.array(np.tile(column + n, width)) for n, width in ((0, WIDTH), (100, 8)))
    mx.eval(arrays)
    return States(arrays)


def held(states: States) -> list[list[float]]:
    return [np.array(array[:, -1]).tolist() for array in states.arrays]


@pytest.mark.parametrize(("source", "into"), [([3], [9]), ([1, 2], [2, 1]), ([5, 5, 6], [7, 8, 5])])
def test_all_is_read_before_any_is_written(source: list[int], into: list[int]) -> None:
    oracle = list(range(SLOTS))
    for a, b in zip(source, into, strict=True):
        oracle[b] = a
    out = held(numbered().copied(source, into))
    assert out == [oracle, [100 + state_slot for state_slot in oracle]]


def test_one_after_the_other() -> None:
    out = held(numbered().copied([3], [9]).copied([9], [4]))[0]
    assert (out[9], out[4], out[5]) == (3, 3, 5)


def test_a_copy_takes_no_memory_but_its_own() -> None:
    states = numbered()
    for _ in range(3):
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        states = states.copied([3], [9])
        states = states.copied([9], [4])
        mx.eval(states.arrays)
        assert mx.get_peak_memory() - before < states.arrays[0].nbytes / 8


def test_states_of_some_sequences_are_replaced_in_place() -> None:
    states = numbered()
    runs = Runs.of([1, 2], [7, 2], [False, True])
    array = states.arrays[0]
    del states
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    array = runs.updated(array, mx.full((2, WIDTH), -1.0))
    mx.eval(array)
    assert mx.get_peak_memory() - before < array.nbytes / 8
    out = np.array(array[:, 0])
    assert out[[7, 2]].tolist() == [-1, -1] and out[3] == 3
