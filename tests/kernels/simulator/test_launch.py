"""One dispatch: written inputs, sizes, values that outputs begin with, counts from nothing."""

import mlx.core as mx
import pytest

from bessemer.kernels.simulator.kernel import (
    DispatchReport,
    SimulatorError,
    SimulatorOptions,
    metal_kernel,
)
from bessemer.kernels.simulator.report import Mode

from .running import COPY, MODES, I, run

WRITE = "device float* p = (device float*)pool;\np[i + 8] = a[i];\no[i] = pool[i];"


@pytest.mark.parametrize("mode", MODES)
def test_in_place(mode: Mode) -> None:
    pool, a = mx.arange(80, dtype=mx.float32), mx.full((64,), -1.0)
    mx.eval(pool)
    kernel = metal_kernel(
        "p",
        ["pool", "a"],
        ["o"],
        f"{I}{WRITE}".replace("pool[i]", "p[0]"),
        options=SimulatorOptions(mode=mode),
        in_place=["pool"],
    )
    assert run(kernel, pool, a).tolist() == [0.0] * 64
    assert pool.tolist() == [*range(8), *[-1.0] * 64, *range(72, 80)]


def test_in_place_is_checked_and_not_written_when_wrong() -> None:
    pool, a = mx.arange(80, dtype=mx.float32), mx.full((64,), -1.0)
    mx.eval(pool)
    kernel = metal_kernel(
        "p",
        ["pool", "a"],
        ["o"],
        f"{I}{WRITE}",
        options=SimulatorOptions(mode="check"),
        in_place=["pool"],
    )
    with pytest.raises(SimulatorError, match=r"data race: .* pool\[byte 32\]"):
        run(kernel, pool, a)
    assert pool.tolist() == list(range(80))


def test_in_place_needs_one_piece_of_memory_for_itself() -> None:
    kernel = metal_kernel("p", ["pool", "a"], ["o"], f"{I}{WRITE}", in_place=["pool"])
    with pytest.raises(SimulatorError, match="row-contiguous"):
        run(kernel, mx.zeros((9, 9)).T[:, 1:], mx.zeros((64,)))
    pool = mx.zeros((80,))
    with pytest.raises(SimulatorError, match="shares memory with input a"):
        run(kernel, pool, pool[:64])
    with pytest.raises(ValueError, match="in_place names no input: pol"):
        metal_kernel("p", ["pool"], ["o"], "", in_place=["pol"])


def test_sizes_of_the_last_group() -> None:
    source = f"{I}o[i] = threads_per_threadgroup.x * 1000 + dispatch_threads_per_threadgroup.x;"
    o = run(metal_kernel("e", [], ["o"], source), size=100, group=64)
    assert o.tolist() == [64064.0] * 64 + [36064.0] * 36


def test_nothing_to_do() -> None:
    kernel = metal_kernel("n", ["a"], ["o"], COPY, options=SimulatorOptions(mode="check"))
    o = run(kernel, mx.zeros((0,)), grid=(0, 1, 1), output_shapes=[(0,)])
    assert o.shape == (0,) and kernel.report.threads == 0


def test_init_value() -> None:
    kernel = metal_kernel("i", ["a"], ["o"], f"{I}if (i < 2) o[i] += a[i];")
    o = run(kernel, mx.ones((64,)), init_value=3.0, output_dtypes=[mx.bfloat16])
    assert o.tolist() == [4.0] * 2 + [3.0] * 62


def test_the_order_of_simdgroups() -> None:
    source = f"{I}o[0] = i;"
    for order, last in (("forward", 63), ("reverse", 31)):
        options = SimulatorOptions(order=order)  # type: ignore[arg-type]
        assert run(metal_kernel("o", [], ["o"], source, options=options)).tolist()[0] == last


def test_a_second_run_starts_at_nothing() -> None:
    kernel = metal_kernel(
        "c", ["a"], ["o"], f"{I}o[i] = a[i] + 1;", options=SimulatorOptions(mode="count")
    )
    reports: list[DispatchReport] = []
    for _ in range(2):
        kernel(
            inputs=[mx.zeros((64,))],
            output_shapes=[(64,)],
            output_dtypes=[mx.float32],
            grid=(64, 1, 1),
            threadgroup=(32, 1, 1),
        )
        reports.append(kernel.report)
    assert reports[0].buffers == reports[1].buffers
    assert reports[0].operations == reports[1].operations
    assert reports[0].lines == reports[1].lines
