"""Gates by which a token of the gated delta rule lets a state decay and corrects it."""

import mlx.core as mx

from ..cpu.library import ARRAY, INT, VALUES, Function, array, empty
from ..registry import Operation, in_c, is_filled


@in_c("op_delta_gates", VALUES, VALUES, ARRAY, ARRAY, INT, INT, ARRAY, ARRAY, takes=is_filled)
def _delta_gates_c(
    native: Function, decay: mx.array, correction: mx.array, rates: mx.array, offsets: mx.array
) -> tuple[mx.array, mx.array]:
    g, beta = empty(*decay.shape), empty(*decay.shape)
    native(decay, correction, rates, offsets, *decay.shape, g, beta)
    return array(g), array(beta)


def delta_gates_reference(
    decay: mx.array, correction: mx.array, rates: mx.array, offsets: mx.array
) -> tuple[mx.array, mx.array]:
    """Compute the definition, in float32."""
    steps = mx.logaddexp(decay.astype(mx.float32) + offsets, 0.0)
    return rates * steps, mx.sigmoid(correction.astype(mx.float32))


# (rows, heads) float32 each, g and beta of `gated_delta`: the same numbers for a row alone. g is
# rates * softplus(decay + offsets), beta sigmoid(correction); decay, correction: (rows, heads);
# rates (negative), offsets: (heads,) float32, evaluated.
delta_gates = Operation("delta_gates", delta_gates_reference, delta_gates_reference, _delta_gates_c)
