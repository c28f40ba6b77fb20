"""Stand-ins: the shapes of what they stand for, and its cost to the host."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import pytest

from bessemer.kernels.simulator.hollow import FAST, SPELLED_OUT, Hollow, zeros
from bessemer.kernels.simulator.pending import Pending, read


def launches(arrays: Sequence[mx.array]) -> list[Pending]:
    return read(arrays).launches


class Till:
    """Counts what is charged; pauses are nothing to it."""

    def __init__(self) -> None:
        self.charges: list[float] = []

    def charge(self, seconds: float) -> None:
        self.charges.append(seconds)

    @contextmanager
    def paused(self) -> Iterator[None]:
        yield


@pytest.fixture
def hollow() -> Hollow:
    return Hollow(Till())


def names(hollow: Hollow, *arrays: mx.array) -> list[str]:
    return [
        each.name if each.mark is None else hollow.kinds[each.mark].name
        for each in launches(arrays)
    ]


def launch(hollow: Hollow, **changes: Any) -> Callable[[mx.array], list[mx.array]]:
    kernel = hollow.metal_kernel("copy", ["x"], ["y", "z"], "y[0] = x[0];", "// header\n")

    def call(x: mx.array) -> list[mx.array]:
        arguments: dict[str, Any] = {
            "inputs": [x],
            "output_shapes": [(3,), (2, 2)],
            "output_dtypes": [mx.float16, mx.int32],
            "grid": (64, 2, 1),
            "threadgroup": (32, 1, 1),
            "template": [("N", 4)],
        }
        return kernel(**arguments | changes)

    return call


def test_an_array_of_one_zero_takes_no_memory() -> None:
    before = mx.get_active_memory()
    big = zeros((1 << 20, 1 << 12), mx.float32)
    assert big.shape == (1 << 20, 1 << 12) and mx.get_active_memory() - before < 1 << 12


def test_a_metal_kernel_gives_its_outputs_and_is_known_by_what_was_asked(hollow: Hollow) -> None:
    y, z = launch(hollow)(mx.ones((8,)))
    assert (y.shape, y.dtype, z.shape, z.dtype) == ((3,), mx.float16, (2, 2), mx.int32)
    pending = launches([y, z])[-1]
    assert pending.mark is not None
    kind = hollow.kinds[pending.mark]
    assert (kind.name, kind.names, kind.parameters) == ("copy", ("x",), {"N": 4})
    assert (kind.grid, kind.threadgroup, kind.text) == ((64, 2, 1), (32, 1, 1), 22)
    assert y.tolist() == [0, 0, 0]


def test_the_same_launch_is_measured_once_and_charged_each_time() -> None:
    till = Till()
    hollow = Hollow(till)
    call = launch(hollow)
    x = mx.ones((8,))
    call(x)
    kinds = len(hollow.kinds)
    del till.charges[:]
    call(x)
    call(x)
    assert len(hollow.kinds) == kinds == 1 and len(till.charges) == 2
    assert till.charges[0] == till.charges[1] != 0
    launch(hollow, template=[("N", 5)])(x)
    assert len(hollow.kinds) == 2


def test_products_have_their_shape_and_are_one_launch(hollow: Hollow) -> None:
    codes, scales = mx.zeros((48, 16), mx.uint32), mx.ones((48, 2))
    stand = hollow.standing_for("quantized_matmul", mx.quantized_matmul)
    y = stand(mx.ones((5, 128)), codes, scales, scales, transpose=True, group_size=64, bits=4)
    assert y.shape == (5, 48) and names(hollow, y)[-1] == "quantized_matmul"
    with pytest.raises(ValueError, match="quantized_matmul"):
        stand(mx.ones((5, 127)), codes, scales, scales, transpose=True, group_size=64, bits=4)


def test_what_is_several_nodes_here_is_one(hollow: Hollow) -> None:
    x, weight = mx.ones((2, 3, 8)), mx.ones((8,))
    q, kv = mx.ones((1, 4, 1, 16)), mx.ones((1, 2, 9, 16))
    mx.eval(x, weight, q, kv)
    codes, scales, _ = mx.quantize(mx.ones((4, 64)), group_size=32, bits=8)
    mx.eval(codes, scales)
    calls: dict[str, tuple[mx.array, ...]] = {
        "rms_norm": (x, weight),
        "layer_norm": (x, weight),
        "rope": (x,),
        "scaled_dot_product_attention": (q, kv, kv[..., :8]),
        "dequantize": (codes, scales),
    }
    options = {"dequantize": {"bits": 8}}
    shapes = {"scaled_dot_product_attention": (1, 4, 1, 8), "dequantize": (4, 64)}
    for name, form in {**FAST, **SPELLED_OUT}.items():
        y = hollow.single(name, form)(*calls[name], **options.get(name, {}))
        assert y.shape == shapes.get(name, x.shape) and names(hollow, y) == [name]


def test_a_compiled_chain_of_elements_is_one_launch_and_what_it_calls_part_of_it(
    hollow: Hollow,
) -> None:
    silu = hollow.compile(lambda x: x * mx.sigmoid(x), shapeless=True)

    @hollow.compile
    def swiglu(gate: mx.array, x: mx.array) -> mx.array:
        out: mx.array = silu(gate) * x
        return out

    x = mx.ones((4,))
    mx.eval(x)
    assert names(hollow, swiglu(x, x)) == ["swiglu"]
    assert names(hollow, swiglu(x + 1, x), swiglu(x, x)) == ["Add", "swiglu", "swiglu"]


def test_a_compiled_step_is_replayed_with_all_its_launches(hollow: Hollow) -> None:
    traced: list[int] = []
    call = launch(hollow)

    @hollow.compile
    def step(x: mx.array) -> tuple[mx.array, mx.array]:
        traced.append(1)
        y, _ = call(mx.exp(x))
        return mx.sum(y), x + 1

    x = mx.ones((8,))
    mx.eval(x)
    for _ in range(3):
        total, x = step(x)
        assert sorted(names(hollow, total, x)) == ["Add", "Exp", "Reduce", "copy"]
        mx.async_eval(total, x)
    assert len(traced) == 2 and x.tolist() == [4] * 8  # to see what it is, and to compile it
