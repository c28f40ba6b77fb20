"""Tests of bench/kernels/{dispatches,graph}.py: launches counted in MLX's own graphs."""

from typing import Any

import mlx.core as mx
import pytest

from bessemer.bench.kernels.dispatches import main, ours_a_layer
from bessemer.bench.kernels.graph import compiled_as_one, fast_as_one, launches
from bessemer.bench.models.shapes import shape


def test_views_are_no_launches_and_constants_no_work_of_a_step() -> None:
    def step(x: mx.array) -> mx.array:
        constant = mx.exp(mx.ones((4,)))
        return (x.reshape(2, 2).T + 1).flatten() * constant

    assert launches(step, mx.zeros((4,))) == {"Add": 1, "Multiply": 1}


def test_a_fast_operation_and_a_compiled_function_are_one_launch_each() -> None:
    gate = compiled_as_one(lambda x, y: mx.sigmoid(x) * x * y)

    def step(x: mx.array) -> mx.array:
        y = mx.fast.rms_norm(x, mx.ones((4,)), 1e-5)
        return gate(x, y)

    x = mx.ones((1, 4))
    assert launches(step, x).total() > 2
    with fast_as_one():
        assert launches(step, x).total() == 2
    assert mx.allclose(step(x), mx.sigmoid(x), atol=1e-4)  # and it computes as before


def test_a_custom_kernel_goes_by_its_name() -> None:
    build: Any = mx.fast.metal_kernel("twice", ["x"], ["y"], "y[0] = 2 * x[0];")

    def step(x: mx.array) -> mx.array:
        (y,) = build(
            inputs=[x],
            output_shapes=[x.shape],
            output_dtypes=[x.dtype],
            grid=(1, 1, 1),
            threadgroup=(1, 1, 1),
            template=[("N", 3)],
        )
        return y

    assert launches(step, mx.zeros((9,), mx.float16)) == {"twice": 1}


def test_a_layer_of_ours() -> None:
    layer = ours_a_layer(shape("tiny"))
    assert layer["linear"] == 4 and layer.total() <= 6


def test_too_many_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--shape", "tiny"]) == 0
    assert "at most 6" in capsys.readouterr().out
