"""Tests of what clang refuses of Metal text, and what it is asked for."""

import mlx.core as mx
import pytest

from bessemer.kernels.simulator import compiler
from bessemer.kernels.simulator.kernel import (
    MetalCompileError,
    SimulatorError,
    SimulatorOptions,
    metal_kernel,
)

from .running import COPY, I, planted, run


def test_contraction_is_an_option() -> None:
    x = mx.array([1 + 2.0**-12] * 8)
    source = f"{I}o[i] = a[i] * a[i] - b[i];"
    b = mx.array([1 + 2.0**-11] * 8)
    products = [
        run(
            metal_kernel("f", ["a", "b"], ["o"], source, options=SimulatorOptions(contract=c)),
            x,
            b,
            size=8,
        )
        for c in (False, True)
    ]
    assert products[0].tolist() == [0.0] * 8
    assert products[1].tolist() == [2.0**-24] * 8


def test_where_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(compiler, "toolchain", compiler.toolchain.__wrapped__)
    compiler._digest.cache_clear()
    kernel = metal_kernel("copy", ["a"], ["o"], COPY)
    for attempt in (compiler.require, lambda: run(kernel, mx.zeros((64,)))):
        with pytest.raises(SimulatorError, match=r"^[^\n]* -m pip install ziglang brings one$"):
            attempt()


BROKEN = {
    "a device pointer for a threadgroup's": (
        "o[0] = f(a);",
        "inline float f(threadgroup const float* p) { return p[0]; }\n",
        "",
    ),
    "a device pointer for a thread's": (
        "o[0] = f(a);",
        "inline float f(thread const float* p) { return p[0]; }\n",
        "",
    ),
    "double": ("double d = a[0]; o[0] = d;", "", "double"),
    "an array in a function": (
        "o[0] = f(a[0]);",
        "inline float f(float x) { threadgroup float s[4]; s[0] = x; return s[0]; }\n",
        "",
    ),
    "which max": ("o[0] = max(half(a[0]), 1.0f);", "", "kernel.metal:1:"),
    "64 bits": ("o[0] = simd_sum(long(a[0]));", "", ""),
    "an unknown name": ("\n\no[0] = b;", "", "kernel.metal:3:8: error: use of undeclared"),
    "an unknown name in the header": (
        "o[0] = 0;",
        "\nconstant int x = y;\n",
        "header.metal:2:18: error: use of undeclared",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_compile(name: str) -> None:
    source, header, words = BROKEN[name]
    with pytest.raises(
        MetalCompileError, match=f"kernel 'planted' does not compile:\n(?s:.*){words}"
    ):
        planted(source, "fast", header=header)


def test_small_inputs_are_constant() -> None:
    header = "inline float f(device const float* p) { return p[0]; }\n"
    with pytest.raises(MetalCompileError, match="no matching function"):
        planted("o[0] = f(a);", "fast", header=header, inputs=[mx.zeros((7,))])
    planted("o[0] = f(a);", "fast", header=header, inputs=[mx.zeros((8,))])
