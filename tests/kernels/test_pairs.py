"""Tests of kernels/pairs.py."""

from itertools import combinations, product

import pytest

from bessemer.kernels.pairs import pairs


@pytest.mark.parametrize("counts", [(2, 2), (6, 3, 3, 2, 2, 4), (1, 3, 5), (4,)])
def test_any_two_values_meet_in_few_combinations(counts: tuple[int, ...]) -> None:
    settings = {f"s{i}": [f"{i}.{value}" for value in range(n)] for i, n in enumerate(counts)}
    found = list(pairs(settings))
    assert all(list(each) == list(settings) for each in found)
    for one, other in combinations(settings, 2):
        met = {(each[one], each[other]) for each in found}
        assert met == set(product(settings[one], settings[other]))
    if len(counts) > 1:
        largest, second = sorted(counts)[-2:]
        assert largest * second <= len(found) <= 1.5 * largest * second
    assert found == list(pairs(settings))
