"""The mean of hidden states, added up chunk by chunk."""

import numpy as np
import pytest

from bessemer.engine.text_vector import Floats, TextVector

ROWS: Floats = (np.random.RandomState(3).standard_normal((50, 8)) * 1e3).astype(np.float32)


def of(*stops: int) -> Floats:
    vector = TextVector()
    for start, stop in zip((0, *stops), (*stops, len(ROWS)), strict=True):
        vector.add(start, ROWS[start:stop])
    return vector.unit()


@pytest.mark.parametrize("stops", [(1,), (49,), (7, 8, 30), tuple(range(1, 50))])
def test_the_mean_is_of_length_1_and_the_same_in_any_chunks(stops: tuple[int, ...]) -> None:
    mean = ROWS.astype(np.float64).mean(axis=0)
    assert np.abs(of() - mean / np.linalg.norm(mean)).max() < 1e-7
    assert (of(*stops) == of()).all() and of().dtype == np.float32


def test_a_long_text_is_added_up_as_exactly_as_a_short_one() -> None:
    vector, rows = TextVector(), np.tile(ROWS / np.float32(1e3) + 9, (400, 1))
    vector.add(0, rows)
    mean = rows.astype(np.float64).mean(axis=0)
    assert np.abs(vector.unit() - mean / np.linalg.norm(mean)).max() < 1e-7


def test_a_text_that_begins_anew_forgets_what_was_computed() -> None:
    vector = TextVector()
    vector.add(0, ROWS[:20] * 9)
    vector.add(20, ROWS[:3])
    vector.add(0, ROWS)
    assert (vector.unit() == of()).all()


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_of_states_that_are_no_numbers_comes_none(broken: float) -> None:
    vector = TextVector()
    vector.add(0, np.full((2, 4), broken, np.float32))
    assert not np.isfinite(vector.unit()).any()


def test_states_without_length_have_a_vector_without_length() -> None:
    vector = TextVector()
    vector.add(0, np.zeros((2, 4), np.float32))
    assert vector.unit().tolist() == [0] * 4
