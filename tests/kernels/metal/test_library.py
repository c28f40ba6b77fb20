"""Kernels of .metal files: launched at once or bound to their sizes, and watched."""

import mlx.core as mx
import pytest

from bessemer.kernels.metal.device import Nowhere, Simulator, using
from bessemer.kernels.metal.library import SMALLEST, kernel, nothing, padded, scalar, watching

WIDTH = 32


def arguments() -> tuple[list[mx.array], dict[str, mx.Dtype | int]]:
    x, weight = mx.arange(2 * WIDTH, dtype=mx.float32).reshape(2, WIDTH), mx.ones((WIDTH,))
    inputs = [x, weight, nothing(mx.float32), scalar(1e-5), scalar(WIDTH, mx.int32)]
    return inputs, {"T": mx.float32, "G": mx.float32, "COUNT": 4, "SUM": False}


def test_a_bound_kernel_is_the_same_launch() -> None:
    inputs, template = arguments()
    sizes = ([((2, WIDTH), mx.float32)], (2 * WIDTH, 1, 1), (WIDTH, 1, 1))
    with using(Simulator()), watching() as launches:
        (at_once,) = kernel("rms_norm")(inputs, *sizes, **template)
        bound = kernel("rms_norm").bound(*sizes, **template)
        outs = [bound(inputs)[0] for _ in range(2)]
        mx.eval(at_once, outs)
    exact = mx.fast.rms_norm(inputs[0], inputs[1], 1e-5)
    assert all(mx.array_equal(out, at_once) for out in outs)
    assert mx.allclose(at_once, exact, rtol=1e-5)
    assert [launch.source.name for launch in launches] == ["rms_norm"] * 3
    assert {(launch.grid, launch.threadgroup) for launch in launches} == {sizes[1:]}


def test_a_template_is_given_in_full() -> None:
    inputs, template = arguments()
    del template["COUNT"]
    with using(Simulator()), pytest.raises(AssertionError):
        kernel("rms_norm")(inputs, [((2, WIDTH), mx.float32)], (64, 1, 1), (32, 1, 1), **template)


def test_nothing_is_launched_nowhere() -> None:
    inputs, template = arguments()
    bound = kernel("rms_norm").bound([((2, WIDTH), mx.float32)], (64, 1, 1), (32, 1, 1), **template)
    with using(Nowhere()), pytest.raises(AssertionError):
        bound(inputs)


def test_what_a_kernel_sees_in_device_memory_has_eight_elements() -> None:
    assert padded(mx.ones((3,))).tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    wide = mx.ones((3, 3))
    assert padded(wide) is wide
    assert nothing(mx.int32, 7).tolist() == [7] * SMALLEST and nothing(mx.int32) is nothing(
        mx.int32
    )
    assert scalar(0.5).shape == () and scalar(0.5) is scalar(0.5)
