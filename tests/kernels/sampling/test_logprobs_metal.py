"""The Metal scores, simulated, against their definition."""

from functools import partial

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.metal.device import Simulator, SimulatorOptions, using
from bessemer.kernels.metal.library import watching
from bessemer.kernels.sampling.logprobs import RowLogprobs, logprobs_mlx

from ..arrays import normal
from ..metal_cases import Case
from .scores import logprobs
from .test_sample_metal import listed

CHECK = Simulator(SimulatorOptions(mode="check"))
# Absolute, and in rounding steps of the largest logit, for scores are differences of such numbers.
TOLERANCE, STEP = 1e-5, 2.0**-23


def exact(logits: np.ndarray) -> np.ndarray:
    """Scores in float64."""
    wide = logits.astype(np.float64)
    largest = wide.max(axis=1, keepdims=True)
    return wide - (largest + np.log(np.exp(wide - largest).sum(axis=1, keepdims=True)))


def check(
    logits: mx.array, rows: list[int], tokens: list[int], count: int, simulator: Simulator = CHECK
) -> None:
    with using(simulator):
        out = logprobs(logits, rows, tokens, count)
    wide = logprobs_mlx(logits.astype(mx.float32), rows, mx.array(tokens), count)
    oracle = RowLogprobs(*map(np.array, wide))
    values = np.array(logits.astype(mx.float32))[rows]
    scores = exact(values)
    tolerance = TOLERANCE + STEP * float(np.abs(values[np.isfinite(values)]).max())
    chosen = scores[np.arange(len(rows)), np.maximum(tokens, 0)]
    assert ((out.ids >= 0) & (out.ids < logits.shape[-1])).all()
    top = np.take_along_axis(scores, out.ids.astype(np.int64), axis=1)
    assert out.chosen == pytest.approx(chosen, abs=tolerance, nan_ok=True)
    assert out.scores == pytest.approx(top, abs=tolerance, nan_ok=True)
    assert out.ids.shape == out.scores.shape == (len(rows), min(count, logits.shape[-1]))
    if not mx.isnan(logits).any():
        assert out.ids.tolist() == oracle.ids.tolist()


@pytest.mark.parametrize(
    ("vocabulary", "count", "dtype"),
    [
        *((1, 20, mx.float32), (2, 2, mx.float16), (7, 0, mx.bfloat16), (33, 20, mx.float16)),
        *((1024, 1, mx.float32), (1025, 20, mx.bfloat16), (5003, 20, mx.float32)),
        *((32003, 20, mx.float16), (32000, 0, mx.float32)),
    ],
)
def test_against_the_definition(vocabulary: int, count: int, dtype: mx.Dtype) -> None:
    tokens = [0, vocabulary - 1, vocabulary // 2, -1]
    check((normal(6, vocabulary) * 5).astype(dtype), [5, 0, 3, 3], tokens, count)


def test_a_large_vocabulary() -> None:
    check(normal(1, 151936).astype(mx.float16), [0], [151935], 20)


def test_equals_rank_by_id_and_the_banned_come_last() -> None:
    check(mx.array([[-mx.inf, 1.0, 1.0, -mx.inf, 1.0, -0.0, 0.0]]), [0], [0], 7)
    check(mx.zeros((1, 3000)), [0], [2999], 20)
    banned = np.full((2, 3000), -np.inf, np.float32)
    banned[0, ::1000] = 1.0
    banned[1, 2000:2019] = np.arange(19) % 5
    check(mx.array(banned), [1, 0], [2001, 5], 20)


def test_more_are_wanted_than_were_listed() -> None:
    check(normal(2, 1300), [0, 1], [1, 2], 300)
    check(normal(1, 1030), [0], [1], 1030)
    check(normal(1, 700), [0], [1], 700)


def test_all_of_as_many_as_are_listed() -> None:
    check(normal(1, 1024), [0], [1], 1024)


def test_ascending_logits_rescale_the_sum() -> None:
    check(mx.array(np.arange(9000, dtype=np.float32)[None] / 10), [0], [0], 20)
    check(mx.array(-np.arange(9000, dtype=np.float32)[None] / 10), [0], [0], 20)
    check(normal(1, 1300) - 500, [0], [0], 20)
    late = np.full((1, 9000), -np.inf, np.float32)
    late[0, 8000:] = 3e38
    check(mx.array(late), [0], [8000], 20)


def test_nothing_above_minus_infinity_is_nan() -> None:
    with using(CHECK):
        out = logprobs(mx.full((1, 40), -mx.inf), [0], [3], 3)
    assert np.isnan(out.chosen).all() and np.isnan(out.scores).all()


INF = float("inf")


@pytest.mark.parametrize(
    "logits",
    [
        *([INF, 1.0, 2.0], [1.0, INF, INF], [INF], [-INF, INF, 0.0], [3e38, 3e38, INF, -INF]),
        [*[-1.0] * 1500, INF, 5.0],
    ],
)
def test_infinity_leaves_nothing_to_others(logits: list[float]) -> None:
    """A number less the sum's logarithm, which NumPy adds up two at a time."""
    values = np.array(logits)
    whole = np.logaddexp.reduce(values)
    assert whole == INF
    with np.errstate(invalid="ignore"), using(CHECK):
        places = list(range(len(logits)))[-40:]
        out = logprobs(mx.array([logits]), [0] * len(places), places, min(3, len(logits)))
        assert np.array_equal(out.chosen, (values - whole)[places], equal_nan=True)
        for ids, scores in zip(out.ids, out.scores, strict=True):
            assert ids[0] == values.argmax()
            assert np.array_equal(scores, (values - whole)[ids], equal_nan=True)


def test_nan_is_seen_and_stays_in_its_row() -> None:
    logits = np.array(normal(3, 2000))
    logits[0, 1999] = np.nan
    logits[2, 1992:] = -np.inf  # nothing else in its thread, and it ranks last
    logits[2, 1999] = np.copysign(np.nan, -1)
    check(mx.array(logits), [0, 1, 2], [3, 3, 3], 4)


@pytest.mark.parametrize("size", [1001, 1029])
def test_what_ranks_last_is_of_the_row(size: int) -> None:
    """A negative NaN does, below the -infinity that stands for what is beyond the end."""
    logits = np.full((1, size), np.copysign(np.nan, -1), np.float32)
    logits[0, 5:8] = 1.0
    with using(CHECK):
        out = logprobs(mx.array(logits), [0], [3], 12)
    assert out.ids.tolist() == [[5, 6, 7, 0, 1, 2, 3, 4, 8, 9, 10, 11]]


@pytest.mark.parametrize(
    "options", [SimulatorOptions("check", True), SimulatorOptions("check", False, "reverse")]
)
def test_contraction_and_order(options: SimulatorOptions) -> None:
    for size in (1300, 5000):
        check(normal(2, size), [1, 0], [3, 2], 20, Simulator(options))


def test_the_logits_are_read_twice_at_most() -> None:
    many = normal(1, 32768).astype(mx.float16)
    banned = np.array(normal(1, 9000))
    banned[0, np.arange(9000) // 64 % 64 == 5] = -np.inf  # all that eight threads see
    count = listed(np.array(many.astype(mx.float32))[0])
    table = (
        *((many, 0, 1), (many, 20, 2), (many, count, 2)),
        *((mx.array(banned), 20, 2), (normal(1, 1304), 5, 2), (normal(1, 1024), 1000, 2)),
    )
    for logits, top, times in table:
        with using(Simulator(SimulatorOptions(mode="count"))), watching() as launches:
            logprobs(logits, [0], [5], top)
        (report,) = [launch.report for launch in launches]
        assert report is not None
        itemsize = logits.itemsize
        assert report.buffer("logits").loads.moved <= times * logits.nbytes + itemsize


def cases() -> list[Case]:
    runs = {
        "short": partial(check, normal(2, 1300), [1, 0], [3, 1299], 20),
        "small": partial(check, normal(3, 33).astype(mx.float16), [2, 0], [32, -1], 33),
        "ranks": partial(check, mx.zeros((2, 1500)), [0, 1], [3, 4], 3),
        "all": partial(check, normal(1, 700), [0], [1], 700),
        "sum": test_ascending_logits_rescale_the_sum,
        "bytes": test_the_logits_are_read_twice_at_most,
        "wanted": partial(check, normal(2, 1300), [0, 1], [1, 2], 40),
        "most": test_all_of_as_many_as_are_listed,
        "last": partial(test_what_ranks_last_is_of_the_row, 1001),
        "last of many": partial(test_what_ranks_last_is_of_the_row, 1029),
        "nan": test_nan_is_seen_and_stays_in_its_row,
        "infinity": partial(test_infinity_leaves_nothing_to_others, [INF, 1.0, 2.0]),
    }
    return [Case(name, "logprobs.metal", run) for name, run in runs.items()]
