"""Sparse edits against their definition and by hand, on every path."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.sampling.edit import Edits, EditTable, edit, edit_reference, edits_of

from ..arrays import close, normal, same
from ..tiers import PATHS, use


@pytest.fixture(params=PATHS, autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, request.param)


def test_by_hand_and_the_source_is_untouched() -> None:
    logits = mx.array([[1.0, -2.0, 3.0], [0.0, 4.0, -1.0]])
    table = np.array(
        [
            [0, 0, 1.0, 2.0, 0.0],  # (1 + 1) / 2
            [0, 1, 1.0, 2.0, 0.5],  # (-2 + 1) * 2 - 0.5
            [1, 2, -np.inf, 1.0, 0.0],
            [1, 1, 0.0, 1.0, 3.0],
        ]
    )
    out = edit(logits, edits_of(*table.T))
    assert out.tolist() == [[1.0, -2.5, 3.0], [0.0, 1.0, -np.inf]]
    assert logits.tolist() == [[1.0, -2.0, 3.0], [0.0, 4.0, -1.0]]


def test_against_the_definition() -> None:
    state = np.random.RandomState(1)
    places = state.permutation(8 * 100)[:300]
    edits = edits_of(
        places // 100,
        places % 100,
        state.normal(size=300),
        state.uniform(0.5, 2, size=300),
        state.normal(size=300),
    )
    logits = normal(8, 100)
    assert close(edit(logits, edits), edit_reference(logits, edits), 1e-6)


def test_what_was_banned_stays_banned() -> None:
    entry = edits_of(*np.array([[0, 1, 5.0, 1.3, 1.0]]).T)
    assert edit(mx.array([[0.0, -mx.inf]]), entry).tolist() == [[0.0, -mx.inf]]


def test_places_outside_are_passed_over() -> None:
    logits = normal(2, 5)
    table = np.array([[0, 5, 1.0, 1, 0], [2, 0, 1.0, 1, 0], [0, -1, 1.0, 1, 0], [-1, 0, 1, 1, 0]])
    assert same(edit(logits, edits_of(*table.T)), logits)
    assert same(edit(logits, Edits()), logits)


def test_the_latest_edits_count_instead_of_those_that_last() -> None:
    logits = mx.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    lasting = EditTable(np.array([2, 0]), np.array([[5.0, 1, 0], [9.0, 1, 0]]))
    latest = EditTable(np.array([1, 0]), np.array([[0.5, 1, 0], [0, 2.0, 1.0]]))
    out = edit(logits, Edits({0: lasting, 1: lasting}, {1: latest, 2: latest}))
    assert out.tolist() == [[10.0, 2.0, 8.0], [-0.5, 2.5, 8.0]]


def test_a_table_that_grows_stays_in_order() -> None:
    state = np.random.RandomState(3)
    table, oracle = EditTable.empty(), dict[int, list[float]]()
    for _ in range(300):
        token, change = int(state.randint(99)), state.normal(size=3).astype(np.float32).tolist()
        table.put(token, *change)
        oracle[token] = change
    kept = table.copy()
    table.put(1000, 1, 1, 1)
    assert kept.ids.tolist() == sorted(oracle)
    assert kept.changes.tolist() == [oracle[token] for token in sorted(oracle)]
    assert table.ids.tolist() == [*sorted(oracle), 1000] and table.inside(99).stop == len(kept)
