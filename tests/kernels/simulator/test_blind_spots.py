"""Kernels that only seem right: each leaves something to luck that check mode must say."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.simulator.kernel import (
    MetalCompileError,
    SimulatorError,
    SimulatorOptions,
    metal_kernel,
)

from .running import I, planted

GROUPS = "uint group = threadgroup_position_in_grid.x;\nuint t = thread_index_in_threadgroup;\n"


def vectors(offset: int, shift: int = 0, name: str = "float4") -> mx.array:
    source = f"{I}o[i] = (*(const device {name}*)(a + 4 * i)).x;"
    options = SimulatorOptions("check", shift=shift)
    kernel = metal_kernel("vectors", ["a"], ["o"], source, options=options)
    array = mx.arange(80, dtype=mx.float32)[offset : offset + 64]
    call = {"output_shapes": [(16,)], "output_dtypes": [mx.float32]}
    return kernel(inputs=[array], grid=(16, 1, 1), threadgroup=(16, 1, 1), **call)[0]


@pytest.mark.parametrize(("offset", "shift"), [(1, 0), (2, 0), (3, 0), (0, 1), (4, 3), (3, 2)])
def test_a_vector_is_loaded_where_only_numbers_are_aligned(offset: int, shift: int) -> None:
    message = f"misaligned access: .* {(offset + shift) % 4 * 4} bytes beyond"
    with pytest.raises(SimulatorError, match=message):
        vectors(offset, shift)


@pytest.mark.parametrize(("offset", "shift"), [(0, 0), (4, 0), (8, 4), (1, 3)])
def test_slices_that_are_aligned(offset: int, shift: int) -> None:
    assert vectors(offset, shift).tolist() == list(range(offset, offset + 64, 4))


def test_packed_vectors_may_lie_anywhere() -> None:
    assert vectors(3, 0, "packed_float4")[:2].tolist() == [3, 7]


def test_a_misaligned_store() -> None:
    with pytest.raises(SimulatorError, match="misaligned access: a type of 8 bytes' alignment"):
        planted(f"{I}if (i < 31) *(device float2*)(o + 2 * i + 1) = float2(a[i]);")


def test_a_private_variable_that_nobody_wrote() -> None:
    with pytest.raises(MetalCompileError, match="variable 'sum' is uninitialized"):
        planted(f"{I}float sum;\nsum += a[i];\no[i] = sum;")
    source = f"{I}float x[4];\nfor (uint k = 0; k < i % 4; k++) x[k] = a[k];\no[i] = x[0] + 0 * i;"
    (out,) = planted(source)
    assert [bool(each) for each in np.isnan(np.array(out))] == [i % 4 == 0 for i in range(64)]
    (out,) = planted(f"{I}int n[2];\nif (a[i] > 0) n[0] = 1;\no[i] = n[0];")
    assert abs(out[0].item()) > 1e6  # type: ignore[arg-type]


def test_an_output_that_is_not_written_everywhere() -> None:
    source = f"{I}if (i != 37) o[i] = a[i];"
    (out,) = planted(source)
    assert np.isnan(np.array(out)).nonzero()[0].tolist() == [37]
    with pytest.raises(SimulatorError, match=r"unwritten output: o\[byte 148\]"):
        planted(source, options={"whole_outputs": True})
    planted(source, options={"whole_outputs": True}, init_value=0)
    planted(f"{I}o[i] = a[i];", options={"whole_outputs": True})


WAITS = f"""{GROUPS}
device atomic_uint* flag = (device atomic_uint*)(o + 32);
if (t == 0 && group == 1) {{ atomic_store_explicit(flag, 7u, memory_order_relaxed); }}
if (t == 0 && group == 0) {{ while (atomic_load_explicit(flag, memory_order_relaxed) != 7u) {{}} }}
if (t < 8) o[8 * group + t] = a[t];"""


@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_waiting_for_another_threadgroup(order: str) -> None:
    """Metal promises no threadgroup that another one runs: in one order it never ends."""
    options = {"order": order, "seconds": 60.0}
    hazard = "waits for what another" if order == "forward" else "another threadgroup wrote"
    with pytest.raises(SimulatorError, match=hazard):
        planted(WAITS, group=32, options=options, init_value=0)


PARTIAL = f"""{GROUPS}
device atomic<float>* parts = (device atomic<float>*)o;
device atomic_uint* done = (device atomic_uint*)(o + 8);
if (t == 0) {{
  atomic_store_explicit(parts + group, a[group], memory_order_relaxed);
  if (atomic_fetch_add_explicit(done, 1u, memory_order_relaxed) == 1u) {{
    float sum = 0;
    for (int g = 0; g < 2; g++) sum += atomic_load_explicit(parts + g, memory_order_relaxed);
    o[16] = sum;
  }}
}}"""


@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_partial_sums_by_relaxed_atomics(order: str) -> None:
    """The last to count reads what the others stored: relaxed atomics order nothing else."""
    with pytest.raises(SimulatorError, match="cross-threadgroup hazard: read of memory another"):
        planted(PARTIAL, group=32, options={"order": order}, init_value=0)


def test_atomics_that_need_no_order() -> None:
    """Counters and votes of many threadgroups."""
    source = f"""{GROUPS}
atomic_fetch_add_explicit((device atomic_uint*)o, 1u, memory_order_relaxed);
if (t == 3) atomic_store_explicit((device atomic_uint*)o + 1, 5u, memory_order_relaxed);"""
    (out,) = planted(source, group=32, init_value=0)
    assert np.array(out).view(np.uint32).tolist()[:3] == [64, 5, 0]


@pytest.mark.parametrize("call", ["simd_sum(a[i])", "simd_shuffle_xor(a[i], ushort(1))"])
def test_simdgroup_operations_after_lanes_have_returned(call: str) -> None:
    with pytest.raises(SimulatorError, match="after lanes 0xff000000 have returned"):
        planted(f"{I}if (i % 32 >= 24) return;\no[i] = {call};")
    planted(f"{I}if (i >= 32) return;\no[i] = {call};")  # a simdgroup as a whole may
