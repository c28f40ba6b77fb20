"""Kernels on the simulator: results, strided and written inputs, options, what it compiles."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.simulator import compiler
from bessemer.kernels.simulator.kernel import (
    CompileError,
    MetalKernel,
    Options,
    SimulatorError,
    compile_standalone,
    compiled_ir,
    metal_kernel,
)
from bessemer.kernels.simulator.report import Mode

MODES: tuple[Mode, ...] = ("fast", "count", "check")
I = "uint i = thread_position_in_grid.x;\n"  # noqa: E741
COPY = f"{I}o[i] = a[i];"
BY_STRIDES = f"{I}o[i] = a[elem_to_loc(int64_t(i), a_shape, a_strides, a_ndim)];"


def run(kernel: MetalKernel, *inputs: Any, size: int = 64, group: int = 64, **given: Any) -> Any:
    call: dict[str, Any] = {
        "output_shapes": [(size,)] * len(kernel.definition.output_names),
        "output_dtypes": [mx.float32] * len(kernel.definition.output_names),
        "grid": (size, 1, 1),
        "threadgroup": (group, 1, 1),
    }
    outputs = kernel(inputs=list(inputs), **(call | given))
    return outputs[0] if len(outputs) == 1 else outputs


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_sums_of_rows(dtype: mx.Dtype, mode: Mode) -> None:
    source = """
        threadgroup float parts[8];
        uint row = threadgroup_position_in_grid.y, t = thread_index_in_threadgroup;
        float sum = 0;
        for (uint i = t; i < N; i += threads_per_threadgroup.x) sum += float(x[row * N + i]);
        sum = simd_sum(sum);
        if (thread_index_in_simdgroup == 0) parts[simdgroup_index_in_threadgroup] = sum;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (t == 0) {
            for (uint i = 1; i < simdgroups_per_threadgroup; i++) sum += parts[i];
            y[row] = T(sum);
        }
    """
    x = mx.random.normal((3, 1000), key=mx.random.key(0)).astype(dtype)
    kernel = metal_kernel("rows", ["x"], ["y"], source, options=Options(mode=mode))
    y = run(
        kernel,
        x,
        template=[("T", dtype), ("N", 1000)],
        grid=(256, 3, 1),
        threadgroup=(256, 1, 1),
        output_shapes=[(3,)],
        output_dtypes=[dtype],
    )
    assert y.dtype == dtype
    close = 0.05 if dtype == mx.bfloat16 else 0.02
    assert mx.allclose(y.astype(mx.float32), x.astype(mx.float32).sum(-1), atol=close, rtol=close)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_one_rounding_an_operation(dtype: mx.Dtype) -> None:
    bits = np.random.default_rng(0).integers(0, 65536, (2, 1 << 14), np.uint16)
    a, b = (mx.array(each).view(dtype) for each in bits)
    source = f"{I}s[i] = a[i] + b[i]; p[i] = a[i] * b[i];"
    kernel = metal_kernel("r", ["a", "b"], ["s", "p"], source)
    size = 1 << 14
    s, p = run(kernel, a, b, size=size, output_dtypes=[dtype] * 2)
    wide = [x.astype(mx.float32) for x in (a, b)]
    for got, want in ((s, wide[0] + wide[1]), (p, wide[0] * wide[1])):
        right = want.astype(dtype)
        same = (got.view(mx.uint16) == right.view(mx.uint16)) | (mx.isnan(got) & mx.isnan(right))
        assert mx.all(same), f"{size - int(mx.sum(same))} differ"


def strided(name: str) -> mx.array:
    x = mx.arange(64, dtype=mx.float32)
    made = {
        "transposed": lambda: x.reshape(8, 8).T,
        "reversed": lambda: x[::-1],
        "every other": lambda: mx.arange(128, dtype=mx.float32)[1::2],
        "broadcast": lambda: mx.broadcast_to(mx.arange(8, dtype=mx.float32), (8, 8)),
        "part": lambda: mx.arange(256, dtype=mx.float32).reshape(16, 16)[2:10, 3:11],
        "backwards": lambda: mx.arange(256, dtype=mx.float32).reshape(16, 16)[10:2:-1, 11:3:-1],
        "half": lambda: x.reshape(8, 8).astype(mx.bfloat16).T,
    }[name]()
    mx.eval(made)
    return made


NAMES = ["transposed", "reversed", "every other", "broadcast", "part", "backwards", "half"]


@pytest.mark.parametrize("mode", ["fast", "check"])
@pytest.mark.parametrize("name", NAMES)
def test_strided_inputs_as_they_lie(name: str, mode: Mode) -> None:
    a = strided(name)
    kernel = metal_kernel(
        "s", ["a"], ["o"], BY_STRIDES, ensure_row_contiguous=False, options=Options(mode=mode)
    )
    assert run(kernel, a).tolist() == a.flatten().astype(mx.float32).tolist()


def test_strides_are_those_of_the_memory() -> None:
    source = "uint i = thread_position_in_grid.x; o[i] = a_strides[i];"
    lies = metal_kernel("s", ["a"], ["o"], source, ensure_row_contiguous=False)
    made = metal_kernel("s", ["a"], ["o"], source)
    for name, strides in (("transposed", [1, 8]), ("backwards", [-16, -1]), ("broadcast", [0, 1])):
        a = strided(name)
        assert run(lies, a, size=2).tolist() == strides
        assert run(made, a, size=2).tolist() == [8, 1]


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_made_contiguous(name: str) -> None:
    a = strided(name)
    assert run(metal_kernel("c", ["a"], ["o"], COPY), a).tolist() == a.flatten().tolist()


def test_beside_a_strided_input_is_a_guard() -> None:
    kernel = metal_kernel("g", ["a"], ["o"], f"{I}o[i] = a[-int(i)];", ensure_row_contiguous=False)
    assert run(kernel, strided("reversed")).tolist() == list(range(63, -1, -1))
    with pytest.raises(SimulatorError, match="out-of-bounds: a"):
        run(metal_kernel("g", ["a"], ["o"], COPY, ensure_row_contiguous=False), strided("reversed"))


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
        options=Options(mode=mode),
        in_place=["pool"],
    )
    assert run(kernel, pool, a).tolist() == [0.0] * 64
    assert pool.tolist() == [*range(8), *[-1.0] * 64, *range(72, 80)]


def test_in_place_is_checked_and_not_written_when_wrong() -> None:
    pool, a = mx.arange(80, dtype=mx.float32), mx.full((64,), -1.0)
    mx.eval(pool)
    kernel = metal_kernel(
        "p", ["pool", "a"], ["o"], f"{I}{WRITE}", options=Options(mode="check"), in_place=["pool"]
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
    kernel = metal_kernel("n", ["a"], ["o"], COPY, options=Options(mode="check"))
    o = run(kernel, mx.zeros((0,)), grid=(0, 1, 1), output_shapes=[(0,)])
    assert o.shape == (0,) and kernel.report.threads == 0


def test_init_value() -> None:
    kernel = metal_kernel("i", ["a"], ["o"], f"{I}if (i < 2) o[i] += a[i];")
    o = run(kernel, mx.ones((64,)), init_value=3.0, output_dtypes=[mx.bfloat16])
    assert o.tolist() == [4.0] * 2 + [3.0] * 62


def test_the_order_of_simdgroups() -> None:
    source = f"{I}o[0] = i;"
    for order, last in (("forward", 63), ("reverse", 31)):
        options = Options(order=order)  # type: ignore[arg-type]
        assert run(metal_kernel("o", [], ["o"], source, options=options)).tolist()[0] == last


def test_contraction_is_an_option() -> None:
    x = mx.array([1 + 2.0**-12] * 8)
    source = f"{I}o[i] = a[i] * a[i] - b[i];"
    b = mx.array([1 + 2.0**-11] * 8)
    found = [
        run(metal_kernel("f", ["a", "b"], ["o"], source, options=Options(contract=c)), x, b, size=8)
        for c in (False, True)
    ]
    assert found[0].tolist() == [0.0] * 8
    assert found[1].tolist() == [2.0**-24] * 8


def test_many_buffers() -> None:
    names = [f"a{i}" for i in range(31)]
    kernel = metal_kernel("m", names, ["o"], "o[0] = 0;")
    with pytest.raises(SimulatorError, match="has 32 buffers: Metal allows 31"):
        run(kernel, *[mx.zeros((8,))] * 31)


def test_there_is_no_report_before_a_run() -> None:
    with pytest.raises(SimulatorError, match="has not run"):
        _ = metal_kernel("m", [], ["o"], "").report


def test_line_bytes() -> None:
    with pytest.raises(ValueError, match="line_bytes is 48"):
        metal_kernel("m", [], ["o"], "", options=Options(line_bytes=48))


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
    with pytest.raises(CompileError, match=words):
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


def test_where_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(compiler, "toolchain", compiler.toolchain.__wrapped__)
    compiler._digest.cache_clear()
    kernel = metal_kernel("copy", ["a"], ["o"], COPY)
    for attempt in (compiler.require, lambda: run(kernel, mx.zeros((64,)))):
        with pytest.raises(SimulatorError, match=r"^[^\n]*: pip install 'bessemer\[simulator\]'"):
            attempt()


def test_comments_of_a_standalone_text() -> None:
    compile_standalone(
        "// A threadgroup takes 8 rows; a vec<float, 2>(x) too;\n"
        "kernel void f(device float* o [[buffer(0)]]) {\n"
        "  /* The threadgroup\n     memory; */ threadgroup float s[4];\n  o[0] = s[0];\n}\n"
    )
