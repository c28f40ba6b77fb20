"""Medians, intervals and rounds, against figures worked out by hand or by numpy."""

import random

import numpy as np
import pytest

from bessemer.bench.compare.stats import bootstrap, paired, quantile, rotated, summary


def test_every_contestant_is_first_equally_often() -> None:
    rounds = [rotated("abc", number) for number in range(6)]
    assert rounds[:3] == [list("abc"), list("bca"), list("cab")]
    assert [order[0] for order in rounds] == list("abcabc")
    assert rotated([], 3) == []


def test_quantiles_are_numpys() -> None:
    values = [3.0, 1.0, 4.0, 1.5, 9.0]
    for share in (0, 0.025, 0.3, 0.5, 0.95, 1):
        assert quantile(values, share) == pytest.approx(np.quantile(values, share))


def test_the_interval_holds_the_true_median_as_often_as_it_says() -> None:
    generator = random.Random(5)
    hits = 0
    for trial in range(60):
        samples = [generator.gauss(10, 2) for _ in range(15)]
        spread = summary(samples, trial)
        assert spread.minimum <= spread.low <= spread.median <= spread.high <= spread.maximum
        hits += spread.low <= 10 <= spread.high
    assert 52 <= hits <= 60


def test_it_follows_from_the_seed_and_one_sample_is_its_own_interval() -> None:
    samples = [1.0, 2.0, 4.0, 8.0]
    assert bootstrap(samples, max, 1) == bootstrap(samples, max, 1)
    assert bootstrap([7.0], max) == (7.0, 7.0)


def test_ratios_are_of_the_same_round() -> None:
    assert paired([2.0, None, 9.0], [1.0, 5.0, None]) == [2.0]
    with pytest.raises(ValueError):
        paired([1.0], [1.0, 2.0])
