"""Rotation against complex multiplication, and the properties that attention relies on."""

import mlx.core as mx

from bessemer.kernels.rope import rope, rope_reference, rope_table

from .arrays import close, normal, same

FREQUENCIES = mx.array([1.0, 0.3, 0.01, 0.002])


def test_rotation() -> None:
    positions = mx.array([0, 1, 5, 77, 4095], mx.int32)
    x = normal(5, 3, 8)
    table = rope_table(positions, FREQUENCIES, 1.25)
    found = rope(x, table)
    assert close(found, rope_reference(x, table))
    one = rope(x[3:4], rope_table(positions[3:4], FREQUENCIES, 1.25))
    assert same(one, found[3:4])


def test_position_0_changes_nothing_but_the_factor() -> None:
    x = normal(1, 2, 8)
    assert same(rope(x, rope_table(mx.array([0], mx.int32), FREQUENCIES, 1.0)), x)


def test_products_depend_on_distance_alone() -> None:
    q, k = normal(1, 1, 8), normal(1, 1, 8, seed=1)

    def product(a: int, b: int) -> mx.array:
        turned = (
            rope(x, rope_table(mx.array([at], mx.int32), FREQUENCIES, 1.0))
            for x, at in ((q, a), (k, b))
        )
        left, right = turned
        return mx.sum(left * right)

    assert close(product(3, 10), product(103, 110), 1e-4)
    assert not close(product(3, 10), product(3, 11), 1e-2)
