"""Arrays of a known length, a thread's own above all: what overruns them is found in its line."""

from typing import Any

import mlx.core as mx
import pytest

from bessemer.kernels.simulator.kernel import SimulatorError, SimulatorOptions, metal_kernel

I = "uint i = thread_position_in_grid.x;\n"  # noqa: E741
HEADER = """template <typename T>
inline void fill(thread T* x, int n) {
  for (int k = 0; k < n; k++)
    x[k] = T(k);
}
inline void unrolled(thread float* x) {
  _Pragma("unroll") for (int k = 0; k < 5; k++)
    x[k] = k;
}
struct Parts {
  float part[3];
  int last;
};
constant float table[2][4] = {{1, 2, 3, 4}, {5, 6, 7, 8}};
"""


def run(source: str, mode: Any = "check") -> tuple[list[float], int]:
    """A thread for each of 8 values, and the bytes of file scope it read."""
    kernel = metal_kernel(
        "arrays", ["a"], ["o"], source, HEADER, options=SimulatorOptions(mode=mode)
    )
    (out,) = kernel(
        inputs=[mx.arange(8, dtype=mx.float32)],
        output_shapes=[(8,)],
        output_dtypes=[mx.float32],
        grid=(8, 1, 1),
        threadgroup=(8, 1, 1),
    )
    values: Any = out.tolist()
    return values, kernel.report.program_constant_bytes


# source, the words, the line
PLANTED = {
    "a loop": (
        "float x[4];\nfor (int k = 0; k <= 4; k++)\nx[k] = a[i];\no[i] = x[i % 4];",
        r"index 4 of a private array, float\[4\] by thread 0",
        "kernel:4",
    ),
    "an index of some threads": (
        "float x[4] = {1, 2, 3, 4};\no[i] = x[i];",
        r"index 4 of a private array, float\[4\] by thread 4",
        "kernel:3",
    ),
    "before": (
        "float x[4] = {1, 2, 3, 4};\nint k = i;\no[i] = x[k - 1];",
        "index -1 of a private array",
        "kernel:4",
    ),
    "a row of two dimensions": (
        "float x[2][3] = {};\nx[i % 2][i % 4] = 1;\no[i] = x[1][2];",
        r"index 3 of a private array, float\[3\] by thread 3",
        "kernel:3",
    ),
    "a structure's": (
        "Parts x = {};\nx.part[i] = 1;\no[i] = x.last;",
        r"index 3 of a private array, float\[3\]",
        "kernel:3",
    ),
    "a pointer in a function": (
        "half x[5];\nfill(x, i + 2);\no[i] = x[i % 5];",
        "byte offset 10 by a pointer into a private array by thread 4",
        "header:4",
    ),
    "a constant length in a function": (
        "float x[5];\nfill(x, 6);\no[i] = x[i % 5];",
        "byte offset 20 by a pointer into a private array by thread 0",
        "header:4",
    ),
    "a loop to be unrolled": (
        "float x[4];\nunrolled(x);\no[i] = x[i % 4];",
        "byte offset 16 by a pointer into a private array",
        "header:8",
    ),
    "a pointer that steps": (
        "float x[5] = {};\nthread float* p = x + 4;\nfor (uint k = 0; k < i; k++)\n*p-- += a[k];\n"
        "o[i] = x[i % 5];",
        "byte offset -4 by a pointer into a private array by thread 6",
        "kernel:5",
    ),
    "zeros": (
        "float x[5];\nthread float* p = x;\nfor (uint k = 0; k < 6; k++) p[k] = 0;\no[i] = x[1];",
        "byte offset 20 by a pointer into a private array",
        "kernel:4",
    ),
    "of file scope": (
        "o[i] = table[1][i];",
        r"index 4 of a constant array, float\[4\] by thread 4",
        "kernel:2",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted(name: str) -> None:
    source, words, line = PLANTED[name]
    with pytest.raises(SimulatorError, match=f"out-of-bounds: {words}") as caught:
        run(f"{I}{source}")
    assert f"at {line}  `" in str(caught.value)


def test_what_stays_inside() -> None:
    """Every way reaches the last element of each array at once."""
    source = """
Parts x = {{}, 7};
fill(x.part, 3);
Parts y[2] = {x, x};
float m[2][4], u[5];
unrolled(u);
fill(&m[0][0], 4);
fill(m[1], i % 5);
for (uint k = i % 5; k < 4; k++) m[1][k] = 9;
thread float* p = u + 4;
for (int k = 0; k < 4; k++) p--;
o[i] = y[i % 2].last + y[1].part[i % 3] * 10 + m[1][i % 4] * 100 + p[i % 5] * 1000;
"""
    oracle = [
        7 + 10 * (i % 3) + 100 * (i % 4 if i % 4 < i % 5 else 9) + 1000 * (i % 5) for i in range(8)
    ]
    for mode in ("fast", "check"):
        assert run(f"{I}{source}", mode)[0] == oracle


def test_tables_at_file_scope() -> None:
    source = "constant float* row = table[i % 2];\no[i] = row[i / 2];"
    for mode in ("fast", "count", "check"):
        values, read = run(f"{I}{source}", mode)
        assert values == [1, 5, 2, 6, 3, 7, 4, 8]
        assert read == (0 if mode == "fast" else 32)


def test_copies_by_the_compiler() -> None:
    """Loops that clang makes memset and memcpy of are counted and checked as any access."""
    source = f"""threadgroup float s[64];
{I}for (uint k = 0; k < 8; k++) s[i * 8 + k] = 0;
threadgroup_barrier(mem_flags::mem_threadgroup);
float x[2];
for (uint k = 0; k < 2; k++) x[k] = a[i / 2 * 2 + k];
o[i] = s[63 - i] + x[i % 2];"""
    for mode in ("count", "check"):
        assert run(source, mode)[0] == list(range(8))
    with pytest.raises(SimulatorError, match=r"out-of-bounds: a\[byte 32\]"):
        run(source.replace("i / 2 * 2 + k", "i + k"))


def test_an_atomic_in_the_body() -> None:
    source = f"""threadgroup atomic_uint count[1];
{I}if (i == 0) atomic_store_explicit(count, 0, memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup);
uint place = atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
o[place] = a[place];"""
    assert run(source)[0] == list(range(8))
