"""Texts that are only compiled: whole files, and code to be compared."""

from pathlib import Path

import mlx.core as mx
import pytest

from bessemer.kernels.simulator.kernel import (
    MetalCompileError,
    compiled_ir,
    metal_kernel,
)
from bessemer.kernels.simulator.standalone import compile_standalone

from .running import I

FILE = """
#include <metal_stdlib>
#include "part.h"
using namespace metal;
template <typename T, int N>
[[kernel]] void fill(device T* o [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  threadgroup T s[N];
  s[i % N] = vec<T, 2>(T(1), T(2)).x;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  o[i] = s[0] * part(T(3));
}
template [[host_name("fill_float")]] [[kernel]] decltype(fill<float, 4>) fill<float, 4>;
"""


PART = "#pragma once\ntemplate <typename T> inline T part(T x) { return vec<T, 2>(x, x).y; }\n"


def test_a_whole_file_compiles(tmp_path: Path) -> None:
    (tmp_path / "part.h").write_text(PART)
    compile_standalone(FILE, [tmp_path])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("s[0] * part", "q * part", r"kernel.metal:10:\d+: error: use of undeclared"),
        ("fill<float, 4>;", "fill<double, 4>;", "double"),
        ("o[i] = s", "thread T* p = o; o[i] = s", "cannot initialize"),
        ('#include "part.h"', "", "part"),
    ],
)
def test_a_whole_file_does_not(tmp_path: Path, old: str, new: str, words: str) -> None:
    (tmp_path / "part.h").write_text(PART)
    with pytest.raises(MetalCompileError, match=words):
        compile_standalone(FILE.replace(old, new), [tmp_path])


def compiled(source: str, header: str = "") -> str:
    kernel = metal_kernel("t", ["a"], ["o"], source, header)
    dtypes = [mx.float32]
    return compiled_ir(kernel, inputs=[mx.zeros((8,))], output_dtypes=dtypes, template=[("N", 3)])


def test_compiled_code_can_be_compared() -> None:
    barrier = "threadgroup_barrier(mem_flags::mem_threadgroup);"
    text = f"{I}threadgroup float s[8]; s[i] = a[i];\n{barrier}\no[i] = s[7 - i] * N;"
    before = compiled(text)
    same = text.replace("uint i", "\n // more\n  uint  i").replace("7 - i", "(6 - i + 1)")
    assert compiled(same) == before
    assert compiled(text, "inline float unused(float x) { return x; }\n") == before
    assert compiled(text.replace(barrier, "")) != before
    assert compiled(text.replace("mem_threadgroup", "mem_device")) != before
    assert compiled(text.replace("* N", "* (N + 1)")) != before


def test_comments_of_a_standalone_text() -> None:
    compile_standalone(
        "// A threadgroup takes 8 rows; a vec<float, 2>(x) too;\n"
        "kernel void f(device float* o [[buffer(0)]]) {\n"
        "  /* The threadgroup\n     memory; */ threadgroup float s[4];\n  o[0] = s[0];\n}\n"
    )
