"""Tests of the estimate of a kernel's registers against its threadgroup."""

import mlx.core as mx
import pytest

from bessemer.kernels.simulator.kernel import compiled_ir, metal_kernel
from bessemer.kernels.simulator.registers import FEWEST, live_words, most_threads

from .running import I

LOOP = """
define void @f(ptr %a) {
  %1 = load float, ptr %a, align 4
  br label %2

2:
  %3 = phi float [ %1, %0 ], [ %5, %2 ]
  %4 = phi i64 [ 0, %0 ], [ %6, %2 ]
  %5 = fadd float %3, %1
  %6 = add i64 %4, 1
  %7 = icmp eq i64 %6, 9
  br i1 %7, label %8, label %2

8:
  %9 = load <4 x float>, ptr %a, align 16
  %10 = extractelement <4 x float> %9, i64 0
  %11 = fadd float %10, %5
  store float %11, ptr %a, align 4
  ret void
}
"""


def code(body: str) -> str:
    kernel = metal_kernel("held", ["a"], ["o"], f"{I}{body}")
    return compiled_ir(kernel, inputs=[mx.zeros((4096,))], output_dtypes=[mx.float32])


def held(count: int) -> str:
    """That many numbers, all loaded before the first sum, and needed after the last one."""
    return code(
        f"""float x[{count}];
        for (int k = 0; k < {count}; k++) x[k] = precise::sqrt(a[{count} * i + k]);
        float sum = 0;
        for (int k = 0; k < {count}; k++) sum += x[k];
        for (int k = 0; k < {count}; k++) o[{count} * i + k] = x[k] / sum;"""
    )


def test_a_loop_by_hand() -> None:
    """At its end: the first number, the sum, a counter of two words, and what is to be next."""
    assert live_words(LOOP) == 5


def test_few_registers_are_enough_for_all_threads() -> None:
    assert most_threads(code("o[i] = a[i] * 2;")) == 1024


@pytest.mark.parametrize("count", [64, 96])
def test_a_kernel_that_holds_much(count: int) -> None:
    text = held(count)
    assert count <= live_words(text) <= 2.5 * count  # values, and the array that they come from
    assert FEWEST <= most_threads(text) <= 208 * 1024 // (4 * count)


def test_beyond_all_registers_there_are_still_the_fewest() -> None:
    assert most_threads(held(300)) == FEWEST
