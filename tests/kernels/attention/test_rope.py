"""Rotation against complex multiplication, and the properties that attention relies on."""

import mlx.core as mx
import pytest

from bessemer.kernels.attention.rope import rope, rope_reference, rope_table, rope_table_reference

from ..arrays import close, normal, same

FREQUENCIES = mx.array([1.0, 0.3, 0.01, 0.002])


def test_rotation() -> None:
    positions = mx.array([0, 1, 5, 77, 4095], mx.int32)
    x = normal(5, 3, 8)
    table = rope_table(positions, FREQUENCIES, 1.25)
    out = rope(x, table)
    assert close(out, rope_reference(x, table))
    one = rope(x[3:4], rope_table(positions[3:4], FREQUENCIES, 1.25))
    assert same(one, out[3:4])


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("start", [0, 3, 6])
def test_part_of_a_head_turns(interleaved: bool, start: int) -> None:
    x = normal(5, 3, 14)
    table = rope_table_reference(mx.arange(5, dtype=mx.int32), FREQUENCIES, 1.25)
    out = rope(x, table, interleaved, start)
    assert close(out, rope_reference(x, table, interleaved, start))
    for rest in (slice(0, start), slice(start + 8, 14)):
        assert same(out[..., rest], x[..., rest])
    pair = [start, start + (1 if interleaved else 4)]
    a, b = (mx.sum(part[..., pair] ** 2) for part in (out, x))
    assert close(a, b * 1.25**2)


def test_the_table_is_its_definition() -> None:
    positions = mx.array([0, 1, 77, 4095], mx.int32)
    table = rope_table(positions, FREQUENCIES, 1.25)
    oracle = rope_table_reference(positions, FREQUENCIES, 1.25)
    assert close(table.cos, oracle.cos) and close(table.sin, oracle.sin)


def test_position_0_changes_nothing_but_the_factor() -> None:
    x = normal(1, 2, 8)
    assert same(rope(x, rope_table(mx.array([0], mx.int32), FREQUENCIES, 1.0)), x)


def test_products_depend_on_distance_alone() -> None:
    q, k = normal(1, 1, 8), normal(1, 1, 8, seed=1)

    def product(a: int, b: int) -> mx.array:
        rotated = (
            rope(x, rope_table(mx.array([at], mx.int32), FREQUENCIES, 1.0))
            for x, at in ((q, a), (k, b))
        )
        left, right = rotated
        return mx.sum(left * right)

    assert close(product(3, 10), product(103, 110), 1e-4)
    assert not close(product(3, 10), product(3, 11), 1e-2)
