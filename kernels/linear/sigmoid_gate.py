"""A layer's output, let through by a gate of as many numbers."""

import mlx.core as mx

from ..cpu.library import ARRAY, INT, VALUES, Function, array, output
from ..registry import Operation, in_c


def sigmoid_gate_reference(x: mx.array, gates: mx.array) -> mx.array:
    """Return what defines the operation, by MLX's own."""
    return x * mx.sigmoid(gates)


@in_c("op_sigmoid_gate", VALUES, VALUES, INT, INT, ARRAY)
def _sigmoid_gate_c(native: Function, x: mx.array, gates: mx.array) -> mx.array:
    out = output(*x.shape)
    native(x, gates, *x.shape, out)
    return array(out)


# x * sigmoid(gates), (rows, width) each.
sigmoid_gate = Operation(
    "sigmoid_gate", sigmoid_gate_reference, sigmoid_gate_reference, _sigmoid_gate_c
)
