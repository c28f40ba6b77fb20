"""Dispatches in every order that MLX allows: what it cannot see shows as another result."""

from typing import Any

import mlx.core as mx
import pytest

from bessemer.kernels.simulator.kernel import MetalKernel, metal_kernel
from bessemer.kernels.simulator.reorder import Recorded, recording

from ..orders import edges, orders, replay

I = "uint i = thread_position_in_grid.x;\n"  # noqa: E741
WRITE = f"{I}device float* p = (device float*)pool;\np[i] = a[i];\no[0] = 0;"
READ = f"{I}o[i] = pool[i] + 1;"
AFTER = f"{I}o[i] = pool[i] + 1 + token[0];"


def kernel(source: str, *names: str, in_place: tuple[str, ...] = ()) -> MetalKernel:
    return metal_kernel("k", names, ["o"], source, in_place=in_place)


def run(kernel: MetalKernel, *inputs: Any, size: int = 8) -> mx.array:
    (output,) = kernel(
        inputs=inputs,
        output_shapes=[(size,)],
        output_dtypes=[mx.float32],
        grid=(8, 1, 1),
        threadgroup=(8, 1, 1),
    )
    return output


def written_and_read(with_token: bool) -> tuple[list[Recorded], mx.array]:
    pool, a = mx.zeros((8,)), mx.arange(8, dtype=mx.float32)
    mx.eval(pool, a)
    with recording() as dispatches:
        token = run(kernel(WRITE, "pool", "a", in_place=("pool",)), pool, a)
        if with_token:
            run(kernel(AFTER, "pool", "token"), pool, token)
        else:
            run(kernel(READ, "pool"), pool)
    return dispatches, pool


def test_an_edge_that_mlx_sees() -> None:
    dispatches, _ = written_and_read(with_token=True)
    assert edges(dispatches) == [frozenset(), frozenset({0})]
    assert list(orders(dispatches, 10)) == [(0, 1)]


def test_an_edge_that_it_does_not() -> None:
    dispatches, pool = written_and_read(with_token=False)
    assert edges(dispatches) == [frozenset(), frozenset()]
    assert list(orders(dispatches, 10)) == [(0, 1), (1, 0)]
    out = [replay(dispatches, order)[1][0].tolist() for order in orders(dispatches, 10)]
    assert out == [[i + 1.0 for i in range(8)], [1.0] * 8]
    assert pool.tolist() == list(range(8))


def test_a_replay_begins_at_the_beginning_and_is_not_recorded() -> None:
    dispatches, pool = written_and_read(with_token=True)
    with recording() as again:
        for _ in range(2):
            assert replay(dispatches, (0, 1))[1][0].tolist() == [i + 1.0 for i in range(8)]
    assert again == []
    assert pool.tolist() == list(range(8))


def test_what_two_kernels_write() -> None:
    pool = mx.zeros((8,))
    mx.eval(pool)
    write = kernel(WRITE, "pool", "a", in_place=("pool",))
    with recording() as dispatches:
        run(write, pool, mx.full((8,), 1.0))
        run(write, pool, mx.full((8,), 2.0))
    assert pool.tolist() == [2.0] * 8
    replay(dispatches, (1, 0))
    assert pool.tolist() == [1.0] * 8


def test_outputs_go_to_the_inputs_of_the_same_replay() -> None:
    add = kernel(f"{I}o[i] = a[i] + 1;", "a")
    x = mx.zeros((8,))
    with recording() as dispatches:
        first = run(add, x)
        second = run(add, first)
        run(kernel(f"{I}o[i] = a[i] * b[i];", "a", "b"), first, second)
        run(add, x)
    assert edges(dispatches) == [frozenset(), frozenset({0}), frozenset({0, 1}), frozenset()]
    assert list(orders(dispatches, 4)) == [(0, 1, 2, 3), (0, 1, 3, 2), (0, 3, 1, 2), (3, 0, 1, 2)]
    for order in orders(dispatches, 4):
        outputs = [results[0][0].item() for results in replay(dispatches, order)]
        assert outputs == [1.0, 2.0, 2.0, 1.0]


def many() -> list[Recorded]:
    add, x = kernel(f"{I}o[i] = a[i] + 1;", "a"), mx.zeros((8,))
    with recording() as dispatches:
        first = run(add, x)
        for _ in range(6):
            run(add, x)
        run(add, first)
    return dispatches


def test_of_too_many_orders_a_draw_that_begins_with_the_reverse() -> None:
    dispatches = many()
    sample = list(orders(dispatches, 20))
    assert len(set(sample)) == len(sample) == 20
    assert sample[0] == (6, 5, 4, 3, 2, 1, 0, 7)
    assert all(order.index(0) < order.index(7) for order in sample)
    assert sample == list(orders(dispatches, 20)) != list(orders(dispatches, 20, seed=1))


def test_nested_recordings_both_note() -> None:
    add, x = kernel(f"{I}o[i] = a[i] + 1;", "a"), mx.zeros((8,))
    with recording() as outer:
        run(add, x)
        with recording() as inner:
            run(add, x)
    run(add, x)
    assert (len(outer), len(inner)) == (2, 1)


def test_every_dispatch_once() -> None:
    dispatches, _ = written_and_read(with_token=True)
    with pytest.raises(ValueError, match="has every dispatch once"):
        replay(dispatches, (0, 0))
