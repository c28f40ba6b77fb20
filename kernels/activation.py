"""The activation of a feed-forward layer, and of one whose gate and up come as one matrix."""

from functools import cache
from typing import Literal

import mlx.core as mx

from .cpu.library import FLOAT, INT, POINTER, Function, address, array, library, output, ready
from .metal.device import device

Activation = Literal["silu", "gelu", "gelu_tanh", "swiglu_clamped", "relu2"]
ACTIVATIONS: dict[Activation, int] = {  # as in kernels/cpu/activation.h
    "silu": 1,
    "gelu": 2,
    "gelu_tanh": 3,
    "swiglu_clamped": 4,
    "relu2": 5,
}
IN_METAL = frozenset[Activation](("silu", "gelu", "gelu_tanh", "swiglu_clamped"))
ALPHA = 1.702  # of gpt-oss, whose activation is the clamped one


def activate(x: mx.array, activation: Activation = "silu", limit: float = 7.0) -> mx.array:
    """(rows, 2 * width), gate then up, to (rows, width); `limit` is of `swiglu_clamped` alone."""
    native = None if device() is not None else _native()
    if native is None or x.dtype != mx.float32 or not x.size:
        return _compose(x, activation, limit)
    x = ready(x)
    rows, width = x.shape[0], x.shape[1] // 2
    out = output(rows, width)
    native(address(x), rows, width, ACTIVATIONS[activation], limit, address(out))
    return array(out)


def activate_plain(x: mx.array, activation: Activation = "silu") -> mx.array:
    """(rows, width) to the same, without a gate; `swiglu_clamped` is none without one."""
    assert activation != "swiglu_clamped"
    native = None if device() is not None else _plain_native()
    if native is None or x.dtype != mx.float32 or not x.size:
        return (
            x * mx.sigmoid(x) if activation == "silu" else activate_plain_reference(x, activation)
        )
    x = ready(x)
    out = output(*x.shape)
    native(address(x), x.shape[0], x.shape[1], ACTIVATIONS[activation], address(out))
    return array(out)


def activate_plain_reference(x: mx.array, activation: Activation = "silu") -> mx.array:
    """The definition, in float32."""
    return _activated(x.astype(mx.float32), activation).astype(x.dtype)


def activate_reference(
    x: mx.array, activation: Activation = "silu", limit: float = 7.0
) -> mx.array:
    """The definition, in float32."""
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


def _compose(x: mx.array, activation: Activation, limit: float) -> mx.array:
    if activation != "silu":
        return activate_reference(x, activation, limit)
    gate, up = mx.split(x, 2, axis=-1)
    return gate * mx.sigmoid(gate) * up


@cache
def _native() -> Function | None:
    found = library()
    types = (POINTER, INT, INT, INT, FLOAT, POINTER)
    return None if found is None else found.function("op_activate", *types)


@cache
def _plain_native() -> Function | None:
    found = library()
    types = (POINTER, INT, INT, INT, POINTER)
    return None if found is None else found.function("op_activate_plain", *types)
