"""The counts of small kernels, worked out by hand."""

from typing import Any

import mlx.core as mx
import pytest

from bessemer.kernels.simulator.kernel import DispatchReport, SimulatorOptions, metal_kernel
from bessemer.kernels.simulator.report import BufferFlow, Flow, LineFlow, SharedFlow

I = "uint i = thread_position_in_grid.x;\n"  # noqa: E741
BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);\n"


def counted(source: str, size: int = 64, group: int = 64, **arguments: Any) -> DispatchReport:
    definition = {
        name: arguments.pop(name) for name in ("atomic_outputs", "header") if name in arguments
    }
    options = SimulatorOptions(mode=arguments.pop("mode", "count"), **arguments.pop("options", {}))
    kernel = metal_kernel("counted", ["a"], ["o"], source, options=options, **definition)
    call: dict[str, Any] = {
        "inputs": [mx.zeros((1024,))],
        "output_shapes": [(1024,)],
        "output_dtypes": [mx.float32],
        "grid": (size, 1, 1),
        "threadgroup": (group, 1, 1),
    }
    kernel(**(call | arguments))
    return kernel.report


def only(report: DispatchReport, kind: str, space: str = "device") -> LineFlow:
    (out,) = [line for line in report.lines if (line.kind, line.space) == (kind, space)]
    return out


@pytest.mark.parametrize("mode", ["count", "check"])
def test_side_by_side(mode: str) -> None:
    report = counted(f"{I}o[i] = a[i];", mode=mode)
    assert report.buffer("a") == BufferFlow("a", 4096, Flow(256, 256, 256), Flow(), Flow())
    assert report.buffer("o") == BufferFlow("o", 4096, Flow(), Flow(256, 256, 256), Flow())
    line = only(report, "load")
    assert (line.file, line.line, line.text) == ("kernel", 2, "o[i] = a[i];")
    assert (line.accesses, line.instructions, line.lines) == (64, 2, 4)
    assert line.efficiency == 1.0
    assert (report.threads, report.threadgroups, report.mode) == (64, 1, mode)


def test_the_fast_mode_counts_what_is_free() -> None:
    report = counted(f"{I}o[i] = simd_sum(a[i]);\n{BARRIER}", mode="fast")
    assert report.threads == 64 and report.threadgroup_barriers == 1
    assert report.simd_operations == {"sum": 2}
    assert report.buffers == () and report.lines == () and report.operations == {}


def test_lanes_that_read_the_same_move_it_once() -> None:
    report = counted(f"{I}o[i] = a[5];")
    assert report.buffer("a").loads == Flow(requested=256, moved=8, unique=4)
    line = only(report, "load")
    assert (line.requested, line.moved, line.lines) == (256, 8, 2)
    assert line.efficiency == 4 / 64


def test_overlapping_reads() -> None:
    """Lanes in pairs read the same 2 floats; 16 pairs a simdgroup."""
    report = counted(f"{I}float2 v = *(device const float2*)(a + i / 2 * 2);\no[i] = v.x + v.y;")
    assert report.buffer("a").loads == Flow(requested=512, moved=256, unique=256)


def test_lanes_in_turns_in_two_lines() -> None:
    report = counted(f"{I}o[i] = a[i % 2 * 64];")
    assert report.buffer("a").loads == Flow(requested=256, moved=16, unique=8)
    assert only(report, "load").lines == 4


def test_far_apart() -> None:
    report = counted(f"{I}o[i] = a[i * 16];", group=32)
    line = only(report, "load")
    assert (line.lines, line.moved, line.efficiency) == (64, 256, 1 / 16)
    assert report.buffer("a").loads == Flow(256, 256, 256)


@pytest.mark.parametrize(("size", "lines"), [(16, 16), (32, 8), (64, 4), (128, 2), (256, 2)])
def test_lines_of_another_size(size: int, lines: int) -> None:
    inputs = mx.zeros((1024,))
    report = counted(f"{I}o[i] = a[i];", options={"line_bytes": size}, inputs=[inputs])
    line = only(report, "load")
    assert line.lines == lines
    assert line.efficiency == 256 / (lines * size)


def test_a_loop_is_many_instructions() -> None:
    report = counted(f"{I}float v = 0;\nfor (int k = 0; k < 8; k++) v += a[k * 64 + i];\no[i] = v;")
    line = only(report, "load")
    assert (line.accesses, line.instructions, line.moved) == (512, 16, 2048)
    assert report.buffer("a").loads == Flow(2048, 2048, 2048)


def test_reading_again_is_not_unique() -> None:
    report = counted(
        f"{I}float v = 0;\nfor (int k = 0; k < 8; k++) v += a[(k & 1) * 64 + i];\no[i] = v;"
    )
    assert report.buffer("a").loads == Flow(2048, 2048, 512)
    assert report.moved(small=4096) == 512 + 256
    assert report.reread(small=4096) == 2048 - 512
    assert report.moved(small=4095) == 2048 + 256
    assert report.reread(small=4095) == 0


def test_divergent_lanes() -> None:
    report = counted(f"{I}if (i % 2) o[i] = a[i];")
    assert report.buffer("a").loads == Flow(128, 128, 128)
    assert only(report, "load").instructions == 2


def test_atomics_apart() -> None:
    source = f"{I}atomic_fetch_add_explicit(&o[i % 4], 1, memory_order_relaxed);"
    report = counted(
        source, atomic_outputs=True, init_value=0, output_dtypes=[mx.int32], output_shapes=[(4,)]
    )
    flow = report.buffer("o")
    assert flow.atomics == Flow(requested=256, moved=32, unique=16)
    assert flow.loads == flow.stores == Flow()
    assert (report.device_atomics, report.threadgroup_atomics) == (64, 0)
    assert only(report, "atomic").line == 2


def test_shapes_are_buffers() -> None:
    report = counted(f"{I}o[i] = a_shape[0] + a_ndim;")
    assert [buffer.name for buffer in report.buffers] == ["a", "a_shape", "a_ndim", "o"]
    assert report.buffer("a_shape").loads == Flow(256, 8, 4)
    assert only(report, "load", "constant").moved == 16


@pytest.mark.parametrize(
    ("index", "cycles"),
    [("i", 2), ("i * 2", 4), ("i * 32", 64), ("i * 33", 2), ("0", 2), ("i / 2", 2)],
)
def test_banks(index: str, cycles: int) -> None:
    """Two simdgroups store 64 words, each to its own place, and load them by `index`."""
    source = (
        f"threadgroup float s[2112];\n{I}for (uint k = i; k < 2112; k += 64) s[k] = a[0];\n"
        f"{BARRIER}o[i] = s[{index}];"
    )
    report = counted(source)
    line = only(report, "load", "threadgroup")
    assert (line.accesses, line.instructions, line.bank_cycles) == (64, 2, cycles)
    assert (line.lines, line.efficiency) == (0, 1.0)
    assert report.threadgroup.size == 8448
    assert report.threadgroup.stores == SharedFlow(8448, 8448)
    assert report.threadgroup.loads.requested == 256
    assert report.threadgroup.bank_cycles == cycles + 66


def test_barriers_and_operations() -> None:
    source = (
        f"{I}float v = a[i];\nfor (int k = 0; k < 3; k++) {{ v = simd_sum(v); {BARRIER} }}\n"
        "simdgroup_barrier(mem_flags::mem_none);\no[i] = simd_shuffle_xor(v, 1) + simd_max(v);"
    )
    report = counted(source, size=128)
    assert (report.threadgroup_barriers, report.simdgroup_barriers) == (6, 4)
    assert report.simd_operations == {"sum": 12, "max": 4, "shuffle": 4}


def test_the_operation_mix() -> None:
    source = f"{I}float v = a[i];\nv = v * 3.0f + 1.0f;\nif (v < 2.0f) o[i] = v;"
    operations = counted(source).operations
    assert operations["float_float"] == 128
    assert operations["branch"] == operations["comparison"] == 64
    assert counted(f"{I}o[i] = metal::exp(a[i]);").operations["special"] == 64


def test_matrix_flops() -> None:
    source = (
        "simdgroup_matrix<float, 8, 8> x, y;\nsimdgroup_load(x, a);\nsimdgroup_load(y, a + 64);\n"
        "simdgroup_matrix<float, 8, 8> z = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);\n"
        "for (int k = 0; k < 5; k++) simdgroup_multiply_accumulate(z, x, y, z);\n"
        "simdgroup_store(z, o);"
    )
    report = counted(source, size=32, group=32)
    assert report.matrix_flops == 5 * 2 * 8 * 8 * 8
    assert report.simd_operations["matrix_multiply"] == 5
    assert report.buffer("a").loads == Flow(512, 512, 512)
    assert report.buffer("o").stores == Flow(256, 256, 256)


def test_a_line_of_the_header() -> None:
    header = "\ninline float f(device const float* p) {\n  return p[0];\n}\n"
    line = only(counted(f"{I}o[i] = f(a + i);", header=header), "load")
    assert (line.file, line.line, line.text) == ("header", 3, "return p[0];")


def test_copies_of_structures() -> None:
    header = "struct S { float v[40]; };\n"
    source = f"{I}((device S*)o)[i] = ((device const S*)a)[i];"
    report = counted(source, size=2, group=2, header=header)
    assert report.buffer("a").loads == Flow(320, 320, 320)
    assert report.buffer("o").stores == Flow(320, 320, 320)
