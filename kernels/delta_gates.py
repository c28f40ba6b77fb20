"""What each token of the gated delta rule forgets of a state, and how far it corrects it."""

from functools import cache

import mlx.core as mx

from .cpu.library import INT, POINTER, Function, address, empty, library, ready
from .metal.device import device


def delta_gates(
    decay: mx.array, correction: mx.array, rates: mx.array, offsets: mx.array
) -> tuple[mx.array, mx.array]:
    """(rows, heads) float32 each, g and beta of `gated_delta`: the same numbers for a row alone.

    g is rates * softplus(decay + offsets), beta sigmoid(correction); decay, correction: (rows,
    heads); rates (negative), offsets: (heads,) float32, evaluated.
    """
    native = None if device() is not None else _native()
    if native is None or not decay.size:
        return delta_gates_reference(decay, correction, rates, offsets)
    decay, correction = ready(decay), ready(correction)
    g, beta = empty(*decay.shape), empty(*decay.shape)
    native(
        *(address(each) for each in (decay, correction, rates, offsets)),
        *decay.shape,
        address(g),
        address(beta),
    )
    return mx.array(g), mx.array(beta)


def delta_gates_reference(
    decay: mx.array, correction: mx.array, rates: mx.array, offsets: mx.array
) -> tuple[mx.array, mx.array]:
    """The definition, in float32."""
    steps = mx.logaddexp(decay.astype(mx.float32) + offsets, 0.0)
    return rates * steps, mx.sigmoid(correction.astype(mx.float32))


@cache
def _native() -> Function | None:
    found = library()
    types = (*(POINTER,) * 4, INT, INT, POINTER, POINTER)
    return None if found is None else found.function("op_delta_gates", *types)
