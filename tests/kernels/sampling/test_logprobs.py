"""Log probabilities against their definition, on every path."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.sampling.logprobs import RowLogprobs, logprobs_mlx

from ..arrays import normal
from ..tiers import PATHS, use
from .scores import logprobs


@pytest.fixture(params=PATHS, autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, request.param)


@pytest.mark.parametrize("vocabulary", [1, 5, 20, 33, 1024, 5000])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_against_the_definition(vocabulary: int, count: int) -> None:
    logits = normal(6, vocabulary) * 5
    tokens = [0, vocabulary - 1, vocabulary // 2, -1]
    out = logprobs(logits, [5, 0, 3, 3], tokens, count)
    oracle = RowLogprobs(
        *map(np.array, logprobs_mlx(logits, [5, 0, 3, 3], mx.array(tokens), count))
    )
    assert out.chosen == pytest.approx(oracle.chosen, abs=2e-5)
    assert out.ids.tolist() == oracle.ids.tolist()
    assert out.scores == pytest.approx(oracle.scores, abs=2e-5)
    assert out.ids.shape == (4, min(count, vocabulary))


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_logits_of_16_bits_are_scored_in_float32(dtype: mx.Dtype) -> None:
    """As those of the same values are: a sum of 5,000 chances in 16 bits would be far off."""
    logits = (normal(2, 5000) * 3).astype(dtype)
    narrow = logprobs_mlx(logits, [0, 1], mx.array([7, 4999]), 5)
    wide = logprobs_mlx(logits.astype(mx.float32), [0, 1], mx.array([7, 4999]), 5)
    for one, other in zip(narrow, wide, strict=True):
        assert one.dtype == other.dtype and np.array(one).tolist() == np.array(other).tolist()


def test_equals_rank_by_id_and_the_banned_come_last() -> None:
    logits = mx.array([[-mx.inf, 1.0, 1.0, -mx.inf, 1.0]])
    out = logprobs(logits, [0], [0], 5)
    assert out.ids.tolist() == [[1, 2, 4, 0, 3]]
    assert out.chosen.tolist() == [-np.inf]
    assert out.scores[0, :3] == pytest.approx(np.log([1 / 3] * 3), abs=1e-6)


def test_equal_logits_over_a_whole_vocabulary() -> None:
    out = logprobs(mx.zeros((1, 3000)), [0], [2999], 20)
    assert out.ids.tolist() == [list(range(20))]
    assert out.chosen == pytest.approx([-np.log(3000)], abs=1e-5)


def test_ascending_logits() -> None:
    out = logprobs(mx.array(np.arange(3000, dtype=np.float32)[None] / 100), [0], [0], 20)
    assert out.ids.tolist() == [list(range(2999, 2979, -1))]


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    logits = normal(9, 2000)
    together = logprobs(logits, range(9), [7] * 9, 20)
    for row in range(9):
        alone = logprobs(mx.array(np.array(logits)[row : row + 1]), [0], [7], 20)
        assert alone.chosen.tobytes() == together.chosen[row : row + 1].tobytes()
        assert alone.scores.tobytes() == together.scores[row : row + 1].tobytes()


def test_nan_is_seen_and_stays_in_its_row() -> None:
    logits = normal(2, 40)
    logits[0, 39] = mx.nan
    out = logprobs(logits, [0, 1], [3, 3], 4)
    assert np.isnan(out.chosen).tolist() == [True, False]
    assert np.isnan(out.scores).tolist() == [[True] * 4, [False] * 4]
