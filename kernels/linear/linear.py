"""A linear layer's product, for dense and quantized weights; rows do not affect one another."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import mlx.core as mx

from ..cpu.library import ARRAY, FLOAT, INT, VALUES, Function, array, output
from ..norm.rms_norm import Norm, rms_norm_reference
from ..registry import InMetal, Key, Operation, bucket, in_c
from .activation import activate, activate_reference
from .linear_metal import SLICED, is_restored, linear_metal
from .linear_mlx import PLAIN, Epilogue, linear_mlx
from .linear_rows import MAX_ROWS
from .weight import MATRIX, Dense, Quantized, Weight, is_whole_panels, matrix, storage, widen

WIDENED = 1 << 24  # values of a weight that is worth restoring to verify a kernel


def linear_reference(
    x: mx.array, weight: Weight, epilogue: Epilogue = PLAIN, norm: Norm | None = None
) -> mx.array:
    """Compute the definition, in float32."""
    wide = x.astype(mx.float32)
    wide = wide if norm is None else rms_norm_reference(wide, norm.weight, norm.eps)
    y = wide @ widen(weight).T
    y = y if epilogue.bias is None else y + epilogue.bias
    y = y if epilogue.residual is None else y + epilogue.residual
    y = y.astype(x.dtype)
    if epilogue.activation is None:
        return y
    return activate_reference(y, epilogue.activation, epilogue.limit)


@in_c("op_linear", MATRIX, VALUES, INT, VALUES, VALUES, INT, FLOAT, ARRAY)
def _linear_c(
    native: Function,
    x: mx.array,
    weight: Weight,
    epilogue: Epilogue = PLAIN,
    norm: Norm | None = None,
) -> mx.array:
    x = x if norm is None else norm(x)
    kind, limit, bias, outputs = epilogue.activation, epilogue.limit, epilogue.bias, weight.outputs
    if kind is not None:
        outputs //= 2
        if not is_whole_panels(outputs):
            return activate(_linear_c.form(native, x, weight, Epilogue(bias)), kind, limit)
    stored, out = matrix(weight), output(x.shape[0], outputs)
    assert kind is not None or not stored.paired
    native(stored, x, x.shape[0], bias, epilogue.residual, epilogue.number, limit, out)
    return array(out)


def _oracle(
    x: mx.array, weight: Weight, epilogue: Epilogue = PLAIN, norm: Norm | None = None
) -> mx.array:
    """Compute the definition, or for large weights MLX's product, which restores no matrix."""
    is_small = weight.outputs * x.shape[1] <= WIDENED
    return (linear_reference if is_small else linear_mlx)(
        x.astype(mx.float32), weight, epilogue, norm
    )


def _key(x: mx.array, weight: Weight, epilogue: Epilogue = PLAIN, norm: Norm | None = None) -> Key:
    """Tell the other operands apart only by whether they are there: their sizes follow."""
    parts = (epilogue.bias, epilogue.residual, epilogue.activation, norm)
    kinds = "".join(str(int(part is not None)) for part in parts)
    rows = bucket(min(x.shape[0], SLICED + 1))  # any more are multiplied alike
    return (rows, weight.outputs, x.shape[1], *storage(weight), x.dtype, kinds)


def _edges(
    dtype: mx.Dtype, epilogue: Epilogue = PLAIN
) -> Iterator[tuple[mx.array, Weight, Epilogue]]:
    """Cases have few outputs, none of them in whole tiles, and few inputs."""
    for rows, outputs, inputs in ((1, 7, 64), (1, 9, 128), (3, 10, 64)):
        x = mx.random.normal((rows, inputs)).astype(dtype)
        outputs = outputs if epilogue.activation is None else 2 * outputs
        values = mx.random.normal((outputs, inputs)).astype(dtype)
        yield x, Quantized(*mx.quantize(values, group_size=64, bits=4), 64, 4), epilogue
        yield x, Dense(values), epilogue


METAL = InMetal(
    ("linear.metal", "linear_dense.metal", "linear_rows.metal"),
    linear_metal,
    _key,
    _edges,
    takes=lambda x, weight, *_, **__: 0 < x.shape[0] <= MAX_ROWS or is_restored(weight),
    oracle=_oracle,
)
# (rows, inputs) to (rows, outputs), in the dtype of x: x times weight, and the epilogue. With a
# norm, the product is of norm(x).
linear = Operation("linear", linear_mlx, linear_reference, _linear_c, METAL)
# The same where the epilogue has an activation, tried by itself: (rows, outputs / 2).
gated_linear = replace(
    linear,
    name="gated_linear",
    metal=replace(METAL, edges=partial(_edges, epilogue=Epilogue(activation="silu"))),
)
