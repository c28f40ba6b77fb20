"""Sparse edits against their definition and by hand, on every path."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.sampling.edit import Edits, edit, edit_reference

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
    out = edit(logits, Edits(*table.T))
    assert out.tolist() == [[1.0, -2.5, 3.0], [0.0, 1.0, -np.inf]]
    assert logits.tolist() == [[1.0, -2.0, 3.0], [0.0, 4.0, -1.0]]


def test_against_the_definition() -> None:
    state = np.random.RandomState(1)
    places = state.permutation(8 * 100)[:300]
    edits = Edits(
        places // 100,
        places % 100,
        state.normal(size=300),
        state.uniform(0.5, 2, size=300),
        state.normal(size=300),
    )
    logits = normal(8, 100)
    assert close(edit(logits, edits), edit_reference(logits, edits), 1e-6)


def test_what_was_banned_stays_banned() -> None:
    entry = Edits(*np.array([[0, 1, 5.0, 1.3, 1.0]]).T)
    assert edit(mx.array([[0.0, -mx.inf]]), entry).tolist() == [[0.0, -mx.inf]]


def test_places_outside_are_passed_over() -> None:
    logits = normal(2, 5)
    table = np.array([[0, 5, 1.0, 1, 0], [2, 0, 1.0, 1, 0], [0, -1, 1.0, 1, 0], [-1, 0, 1, 1, 0]])
    assert same(edit(logits, Edits(*table.T)), logits)
    assert same(edit(logits, Edits(*np.zeros((5, 0)))), logits)
