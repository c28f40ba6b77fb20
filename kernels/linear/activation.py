"""The activation of a feed-forward layer, with a gate and up in one matrix or without a gate."""

from collections.abc import Iterator
from typing import Literal

import mlx.core as mx

from ..cpu.library import ARRAY, FLOAT, INT, VALUES, Function, array, output
from ..metal.library import kernel, scalar
from ..registry import InMetal, Key, Operation, bucket, in_c
from .weight_metal import FLOATS

Activation = Literal["silu", "gelu", "gelu_tanh", "swiglu_clamped", "relu2"]
ACTIVATIONS: dict[Activation, int] = {  # as in kernels/cpu/activation.h
    "silu": 1,
    "gelu": 2,
    "gelu_tanh": 3,
    "swiglu_clamped": 4,
    "relu2": 5,
}
IN_METAL = frozenset[Activation](("silu", "gelu", "gelu_tanh", "swiglu_clamped"))
EACH, THREADS = 4, 256  # columns of a thread, as in activation.metal
ALPHA = 1.702  # gpt-oss has it in its clamped activation


def _activate_mlx(x: mx.array, activation: Activation = "silu", limit: float = 7.0) -> mx.array:
    if activation != "silu":
        return activate_reference(x, activation, limit)
    gate, up = mx.split(x, 2, axis=-1)
    return gate * mx.sigmoid(gate) * up


@in_c("op_activate", VALUES, INT, INT, INT, FLOAT, ARRAY)
def _activate_c(
    native: Function, x: mx.array, activation: Activation = "silu", limit: float = 7.0
) -> mx.array:
    rows, width = x.shape[0], x.shape[1] // 2
    out = output(rows, width)
    native(x, rows, width, ACTIVATIONS[activation], limit, out)
    return array(out)


def _activate_metal(x: mx.array, activation: Activation = "silu", limit: float = 7.0) -> mx.array:
    rows, width = x.shape[0], x.shape[1] // 2
    threads = min(-(-width // EACH), THREADS)
    return kernel("activation")(
        [x, scalar(width, mx.int32), scalar(limit)],
        [((rows, width), x.dtype)],
        (-(-width // EACH // threads) * threads, rows, 1),
        (threads, 1, 1),
        T=x.dtype,
        ACTIVATION=ACTIVATIONS[activation],
    )[0]


def _covers(x: mx.array, activation: Activation = "silu", *_: object) -> bool:
    known = activation in IN_METAL and x.dtype in FLOATS
    return known and x.size > 0 and not x.shape[1] % (2 * EACH)


def _key(x: mx.array, activation: Activation = "silu", *_: object) -> Key:
    return (bucket(x.shape[0]), x.shape[1], activation, x.dtype)


def _edges(dtype: mx.Dtype) -> Iterator[tuple[mx.array, Activation]]:
    for activation in sorted(IN_METAL):
        for rows, width in ((1, 8), (3, 2072)):
            yield 3 * mx.random.normal((rows, 2 * width)).astype(dtype), activation


def _activate_plain_mlx(x: mx.array, activation: Activation = "silu") -> mx.array:
    assert activation != "swiglu_clamped"
    return x * mx.sigmoid(x) if activation == "silu" else activate_plain_reference(x, activation)


@in_c("op_activate_plain", VALUES, INT, INT, INT, ARRAY)
def _activate_plain_c(native: Function, x: mx.array, activation: Activation = "silu") -> mx.array:
    assert activation != "swiglu_clamped"
    out = output(*x.shape)
    native(x, *x.shape, ACTIVATIONS[activation], out)
    return array(out)


def activate_plain_reference(x: mx.array, activation: Activation = "silu") -> mx.array:
    """Compute the definition, in float32."""
    return _activated(x.astype(mx.float32), activation).astype(x.dtype)


def activate_reference(
    x: mx.array, activation: Activation = "silu", limit: float = 7.0
) -> mx.array:
    """Compute the definition, in float32."""
    gate, up = mx.split(x.astype(mx.float32), 2, axis=-1)
    if activation == "swiglu_clamped":
        gate, up = mx.minimum(gate, limit), mx.clip(up, -limit, limit)
        return (gate / (1 + mx.exp(-ALPHA * gate)) * (up + 1)).astype(x.dtype)
    return (_activated(gate, activation) * up).astype(x.dtype)


def _activated(x: mx.array, activation: Activation) -> mx.array:
    if activation == "relu2":
        return mx.square(mx.maximum(x, 0))
    if activation == "silu":
        share = 1 / (1 + mx.exp(-x))
    elif activation == "gelu":
        share = 0.5 * (1 + mx.erf(x / 2**0.5))
    else:
        share = 0.5 * (1 + mx.tanh((2 / mx.pi) ** 0.5 * (x + 0.044715 * x**3)))
    return x * share


# (rows, 2 * width), gate then up, to (rows, width); only `swiglu_clamped` reads `limit`.
activate = Operation(
    "activation",
    _activate_mlx,
    activate_reference,
    _activate_c,
    InMetal(("activation.metal",), _activate_metal, _key, _edges, takes=_covers),
)
# (rows, width) alike, without a gate; `swiglu_clamped` always has one.
activate_plain = Operation(
    "activation", _activate_plain_mlx, activate_plain_reference, _activate_plain_c
)
