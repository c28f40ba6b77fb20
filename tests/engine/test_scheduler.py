"""The scheduler's arithmetic; what it does in a running engine is in test_engine."""

import random

import pytest

from bessemer.engine.scheduler import share


@pytest.mark.parametrize(
    ("budget", "pending", "oracle"),
    [
        (256, [], []),
        (256, [1000], [256]),
        (256, [10], [10]),
        (256, [1000, 20], [236, 20]),
        (256, [1000, 1000], [256, 0]),
        (256, [1000, 900, 30], [226, 0, 30]),
        (10, [3, 100, 4], [3, 3, 4]),
        (1, [5, 1], [1, 0]),
    ],
)
def test_half_for_the_oldest_the_rest_shortest_first(
    budget: int, pending: list[int], oracle: list[int]
) -> None:
    out = share(budget, pending)
    assert sum(out) == min(budget, sum(pending))
    assert out == oracle
    assert not pending or out[0] >= min(pending[0], -(-budget // 2))


def test_no_budget_is_left_while_somebody_waits() -> None:
    chance = random.Random(1)
    for _ in range(500):
        pending = [chance.randint(1, 400) for _ in range(chance.randint(1, 12))]
        budget = chance.randint(1, 600)
        counts = share(budget, pending)
        assert sum(counts) == min(budget, sum(pending))
        assert all(0 <= c <= p for c, p in zip(counts, pending, strict=True))
