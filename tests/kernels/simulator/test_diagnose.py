"""Each diagnostic: the fault is planted, found, and found in its line."""

import mlx.core as mx
import pytest

from bessemer.kernels.simulator.kernel import SimulatorError, SimulatorOptions, metal_kernel

from .running import I, planted

BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);\n"
SHARED = "threadgroup float s[64];\n"
PASSED_ON = f"{SHARED}{I}s[i] = a[i];\n%s\no[i] = s[(i + 32) %% 64];"


# source, group, the words, the line
PLANTED = {
    "read after the end": (f"{I}o[i] = a[i + 1];", 32, r"out-of-bounds: a\[byte 256\] size 4", 2),
    "write after the end": (f"{I}\n\no[i * 2] = a[i];", 32, r"out-of-bounds: o\[byte 256\]", 4),
    "read before": ("int i = thread_position_in_grid.x;\no[i] = a[i - 1];", 32, r"a\[byte -4\]", 2),
    "write before": ("int i = thread_position_in_grid.x;\no[i - 1] = 0;", 32, r"o\[byte -4\]", 2),
    "threadgroup array": (
        f"threadgroup float s[32]; threadgroup float r[32];\n{I}r[i % 32] = 1;\ns[i] = a[i];\n"
        f"{BARRIER}o[i] = s[i];",
        64,
        r"out-of-bounds: index 32 of a threadgroup array, float\[32\] by thread 32",
        4,
    ),
    "threadgroup array by a pointer": (
        f"threadgroup float s[32]; threadgroup float r[32];\n{I}threadgroup float* p = s;\n"
        f"r[i % 32] = 1;\np[i] = a[i];\n{BARRIER}o[i] = s[i % 32];",
        64,
        r"threadgroup array 's' \(128 bytes\): byte offset 128",
        5,
    ),
    "no barrier": (PASSED_ON % "", 64, "data race: read of a value another thread wrote", 5),
    "wrong flag": (
        PASSED_ON % "threadgroup_barrier(mem_flags::mem_device);",
        64,
        "data race: read of a value another thread wrote",
        5,
    ),
    "weak barrier": (
        PASSED_ON % "simdgroup_barrier(mem_flags::mem_threadgroup);",
        64,
        "data race: read of a value another thread wrote",
        5,
    ),
    "write after read": (
        f"{SHARED}{I}float v = 0;\nfor (int k = 0; k < 2; k++) {{\ns[i] = a[i];\n{BARRIER}"
        "v += s[63 - i];\n}\no[i] = v;",
        64,
        "data race: write to a value another thread read",
        5,
    ),
    "write after write": (
        f"{I}o[0] = i;",
        64,
        r"data race: write after write by another thread with no barrier between o\[byte 0\]",
        2,
    ),
    "write after several lanes read": (
        f"{SHARED}{I}s[i % 32] = a[i];\n{BARRIER}float v = s[0];\n"
        "if (i == 31) s[0] = v + 1;\no[i] = v;",
        32,
        "data race: write to a value another thread read",
        6,
    ),
    "write after several simdgroups read": (
        f"{SHARED}{I}s[i] = a[i];\n{BARRIER}float v = i % 63 ? 0 : s[0];\n"
        "if (i == 63) s[0] = v;\no[i] = v;",
        64,
        "data race: write to a value another thread read",
        6,
    ),
    "a barrier for other memory": (
        f"{I}if (i < 32) o[i] = a[i];\n{BARRIER}if (i >= 32) o[i] = o[63 - i];",
        64,
        r"data race: read of a value another thread wrote with no barrier between o\[",
        4,
    ),
    "uninitialised array": (
        f"{SHARED}{I}if (i < 60) s[i] = a[i];\n{BARRIER}o[i] = s[63 - i];",
        64,
        "uninitialised threadgroup read: .* array 's'",
        5,
    ),
    "uninitialised output": (f"{I}o[i] += a[i];", 32, "uninitialised output read", 2),
    "two groups write": (
        f"{I}o[i % 32] = a[i];",
        32,
        "cross-threadgroup hazard: write to memory another threadgroup wrote",
        2,
    ),
    "a group reads another's": (
        f"{I}o[i] = a[i];\nif (i >= 32) o[i] = o[i - 32];",
        32,
        "cross-threadgroup hazard: read of memory another threadgroup wrote",
        3,
    ),
    "write to input": (f"{I}((device float*)a)[i] = 1;", 32, r"write to input: a\[byte 0\]", 2),
    "atomic and load": (
        f"threadgroup atomic_uint c[1];\n{I}if (i == 0) atomic_store_explicit(&c[0], 0u, "
        f"memory_order_relaxed);\n{BARRIER}atomic_fetch_add_explicit(&c[0], 1u, "
        "memory_order_relaxed);\no[i] = atomic_load_explicit(&c[0], memory_order_relaxed);",
        64,
        "data race: unordered atomics",
        5,
    ),
}
IN_ANY_MODE = {
    "barrier not reached": (f"{I}if (i < 40)\n{BARRIER}o[i] = a[i];", "barrier divergence", 3),
    "two barriers": (
        f"{I}if (i < 40)\n{BARRIER}else\n{BARRIER}o[i] = a[i];",
        "thread 0 waits at line 3, thread 40 at line 5",
        3,
    ),
    "early return": (
        f"{I}if (i >= 50) return;\n{BARRIER}o[i] = a[i];",
        "50 of 64 threads wait at line 3, thread 50 has already returned",
        3,
    ),
    "an operation while lanes are at a barrier": (
        f"{I}float v = a[i];\nif (i % 2)\nv = simd_sum(v);\nelse\n{BARRIER}o[i] = v;",
        "simd divergence: .* lanes 0xaaaaaaaa while live lanes 0x55555555",
        4,
    ),
    "divergent operation": (
        f"{I}float v = a[i];\nif (i % 2)\nv = simd_sum(v);\nv += simd_max(v); o[i] = v;",
        "simd divergence: .* lanes 0xaaaaaaaa while live lanes 0x55555555",
        4,
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted(name: str) -> None:
    source, group, words, line = PLANTED[name]
    with pytest.raises(SimulatorError, match=words) as caught:
        planted(source, group=group)
    text = source.split("\n")[line - 1].strip()
    assert f"at kernel:{line}  `{text}`" in str(caught.value)


@pytest.mark.parametrize("mode", ["fast", "check"])
@pytest.mark.parametrize("name", IN_ANY_MODE)
def test_in_any_mode(name: str, mode: str) -> None:
    source, words, line = IN_ANY_MODE[name]
    with pytest.raises(SimulatorError, match=words) as caught:
        planted(source, mode)
    assert f"at kernel:{line}  `" in str(caught.value)


@pytest.mark.parametrize("name", ["write after the end", "write before", "threadgroup array"])
def test_the_fast_mode_looks_again_for_the_line(name: str) -> None:
    source, group, words, line = PLANTED[name]
    with pytest.raises(SimulatorError, match=words) as caught:
        planted(source, "fast", group=group)
    assert f"at kernel:{line}  `" in str(caught.value)


RIGHT = {
    "barrier": PASSED_ON % BARRIER,
    "simdgroup barrier": (PASSED_ON % "simdgroup_barrier(mem_flags::mem_threadgroup);").replace(
        "(i + 32) % 64", "i ^ 1"
    ),
    "read, simdgroup barrier, write": (
        f"{SHARED}{I}s[i] = a[i];\nsimdgroup_barrier(mem_flags::mem_threadgroup);\n"
        "float v = s[i ^ 1];\nsimdgroup_barrier(mem_flags::mem_threadgroup);\n"
        "v += s[i];\ns[i] = v;\no[i] = v;"
    ),
    "device memory": f"{I}o[i] = a[i];\nthreadgroup_barrier(mem_flags::mem_device);\n"
    "float v = o[63 - i];\nthreadgroup_barrier(mem_flags::mem_device);\no[i] = v;",
}


@pytest.mark.parametrize("name", RIGHT)
def test_nothing_is_wrong(name: str) -> None:
    planted(RIGHT[name])


def test_a_threadgroup_reads_what_another_will_write() -> None:
    """The runs are in order, and still the second group's write is too late."""
    source = f"{I}o[i] = k[(i + 32) % 64];\nk[i] = 1;"
    kernel = metal_kernel(
        "late",
        ["k"],
        ["o"],
        f"device float* k_ = (device float*)k;\n{source}".replace("k[i]", "k_[i]"),
        options=SimulatorOptions(mode="check"),
        in_place=["k"],
    )
    with pytest.raises(SimulatorError, match="write to memory another threadgroup read") as caught:
        kernel(
            inputs=[mx.zeros((64,))],
            output_shapes=[(64,)],
            output_dtypes=[mx.float32],
            grid=(64, 1, 1),
            threadgroup=(32, 1, 1),
        )
    assert "kernel:4" in str(caught.value)


def test_a_threadgroup_reads_again_what_another_read() -> None:
    source = (
        f"{I}device float* p = (device float*)k;\nif (i % 63 == 0) o[i] = k[0];\n"
        "if (i == 63) p[0] = 1;"
    )
    kernel = metal_kernel(
        "again", ["k"], ["o"], source, options=SimulatorOptions(mode="check"), in_place=["k"]
    )
    with pytest.raises(SimulatorError, match="write to memory another threadgroup read"):
        kernel(
            inputs=[mx.zeros((64,))],
            output_shapes=[(64,)],
            output_dtypes=[mx.float32],
            grid=(64, 1, 1),
            threadgroup=(32, 1, 1),
        )


def test_atomics_need_no_barrier() -> None:
    source = f"{I}atomic_fetch_add_explicit(&o[i % 4], 1, memory_order_relaxed);"
    (counts,) = planted(
        source,
        group=32,
        atomic_outputs=True,
        init_value=0,
        output_shapes=[(4,)],
        output_dtypes=[mx.int32],
    )
    assert counts.tolist() == [16] * 4


def test_a_line_of_the_header() -> None:
    header = "// one\ninline float f(device const float* p, uint i) {\n  return p[i + 1];\n}\n"
    with pytest.raises(SimulatorError, match=r"out-of-bounds") as caught:
        planted(f"{I}o[i] = f(a, i);", header=header)
    assert "at header:3  `return p[i + 1];`" in str(caught.value)


def test_a_barrier_in_the_header() -> None:
    header = (
        "inline void f(uint i) {\n  if (i < 3)\n    threadgroup_barrier(mem_flags::mem_none);\n}\n"
    )
    with pytest.raises(SimulatorError, match="3 of 64 threads wait at line 3") as caught:
        planted(f"{I}f(i); o[i] = 0;", "fast", header=header)
    assert "at header:3  `threadgroup_barrier(mem_flags::mem_none);`" in str(caught.value)


def test_divergent_operations_if_wanted() -> None:
    source = f"{I}float v = 1;\nif (i % 2) v = simd_sum(v);\no[i] = v;"
    (o,) = planted(source, "fast", options={"strict_simd": False})
    assert o[:2].tolist() == [1, 16]


def test_threadgroup_memory() -> None:
    with pytest.raises(SimulatorError, match=r"36000 bytes exceeds 32 KiB \(at 's'\)"):
        planted("threadgroup float s[9000];\ns[0] = 0; o[0] = s[0];", "fast")
    planted(
        "threadgroup float s[8192];\nuint i = thread_position_in_grid.x; s[i] = 0; o[i] = s[i];"
    )


def test_a_write_beside_a_threadgroup_array_in_the_fast_mode() -> None:
    with pytest.raises(SimulatorError, match="threadgroup array 's'") as caught:
        planted(
            f"threadgroup float s[63];\n{I}threadgroup float* p = s;\np[i] = a[i];\no[i] = 0;",
            "fast",
        )
    assert "kernel:4" in str(caught.value)
