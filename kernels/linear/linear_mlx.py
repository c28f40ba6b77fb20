"""A linear layer's product by MLX's own operations."""

from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx

from ..norm.rms_norm import Norm, rms_norm_mlx
from .activation import ACTIVATIONS, Activation, activate
from .weight import (
    Dense,
    Packed,
    Quantized,
    Weight,
    arrays_of,
    flattened,
    is_in_mlx,
    widen,
    with_arrays,
)

# Elements of a 16-bit matrix that are widened at a time: 1 MB in float32. MLX allocates ahead of
# its CPU thread, by some 17 blocks.
WIDENED = 1 << 18
RESTORED = 1 << 22  # values that are restored at a time of codes that MLX has no product of


@dataclass(frozen=True, slots=True, eq=False)
class Epilogue:
    """The last steps of a product: + bias, then either + residual or an activation.

    With an activation the product's first half is the gate of its second; only `swiglu_clamped`
    reads `limit`.
    """

    bias: mx.array | None = None
    residual: mx.array | None = None
    activation: Activation | None = None
    limit: float = 7.0

    @property
    def number(self) -> int:
        """The activation's number in the kernels, 0 for none."""
        return 0 if self.activation is None else ACTIVATIONS[self.activation]


PLAIN = Epilogue()
Residual = mx.array | None


def linear_mlx(
    x: mx.array, weight: Weight, epilogue: Epilogue = PLAIN, norm: Norm | None = None
) -> mx.array:
    """Run `linear` by MLX's own operations."""
    y = product(x if norm is None else rms_norm_mlx(x, norm.weight, norm.eps), weight)
    return finished(y, epilogue)


def finished(y: mx.array, epilogue: Epilogue) -> mx.array:
    """Take a product through the last steps."""
    y = y if epilogue.bias is None else y + epilogue.bias
    if epilogue.activation is not None:
        return activate(y, epilogue.activation, epilogue.limit)
    return y if epilogue.residual is None else y + epilogue.residual


def product(x: mx.array, weight: Weight) -> mx.array:
    """Multiply (rows, inputs) to (rows, outputs)."""
    if x.shape[0] == 0:  # MLX 0.32's quantized product on a CPU divides by the number of rows
        return mx.zeros((0, weight.outputs), x.dtype)
    assert not isinstance(weight, Packed)
    weight = weight if isinstance(weight, Dense) else flattened(weight)
    if isinstance(weight, Quantized) and is_in_mlx(weight):
        return mx.quantized_matmul(
            x,
            weight.weight,
            weight.scales,
            weight.biases,
            transpose=True,
            group_size=weight.group,
            bits=weight.bits,
            mode=weight.mode,
        ).astype(x.dtype)
    if isinstance(weight, Dense) and weight.weight.dtype == x.dtype:
        return x @ weight.weight.T
    return by_parts(x, weight, WIDENED if isinstance(weight, Dense) else RESTORED, widen)


def by_parts(
    x: mx.array, weight: Dense | Quantized, size: int, restored: Callable[[Weight], mx.array]
) -> mx.array:
    """Multiply by rows of `size` values that are restored, each part waiting for the last."""
    height = max(1, size // x.shape[1])
    parts: list[mx.array] = []
    for start in range(0, weight.outputs, height):
        arrays = [array[start : start + height] for array in arrays_of(weight)]
        if parts:
            arrays = mx.depends(arrays, [parts[-1]])
        parts.append(x @ restored(with_arrays(weight, arrays)).astype(x.dtype).T)
    return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=-1)
