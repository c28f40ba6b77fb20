"""Tests of what a report adds up."""

from bessemer.kernels.simulator.report import (
    BufferFlow,
    DispatchReport,
    Flow,
    SharedFlow,
    Threadgroup,
    simd_operation,
)

NO = SharedFlow()
SMALL = BufferFlow("small", 64, Flow(900, 640, 64), Flow(8, 8, 8), Flow())
LARGE = BufferFlow("large", 4096, Flow(9000, 8192, 4096), Flow(), Flow(4, 4, 4))


def report(*buffers: BufferFlow) -> DispatchReport:
    return DispatchReport(
        *("kernel", "count", 0.0, 32, 1, 0, 0, {}, 0, 0, 0, 0, 0),
        Threadgroup(0, NO, NO, NO, 0),
        *(0, {}, buffers, ()),
    )


def test_a_small_buffer_travels_once() -> None:
    out = report(SMALL, LARGE)
    assert out.buffer("large") is LARGE
    assert (LARGE.moved, LARGE.unique, SMALL.moved, SMALL.unique) == (8196, 4100, 648, 72)
    assert (out.moved(64), out.reread(64)) == (72 + 8196, 648 - 72)
    assert (out.moved(63), out.reread(63)) == (648 + 8196, 0)


def test_operations_have_names() -> None:
    assert [simd_operation(n) for n in (1, 13, 60)] == ["sum", "matrix_load_store", "operation_60"]
