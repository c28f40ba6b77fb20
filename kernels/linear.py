"""A linear layer's product, for dense and quantized weights; rows do not affect one another."""

from dataclasses import dataclass

import mlx.core as mx

# Elements of a 16-bit matrix that are widened at a time: 1 MB in float32. MLX allocates ahead of
# its CPU thread, by some 17 blocks.
WIDENED = 1 << 18


@dataclass(frozen=True, slots=True)
class Dense:
    """weight: (outputs, inputs), any floating dtype."""

    weight: mx.array

    @property
    def outputs(self) -> int:
        return self.weight.shape[0]


@dataclass(frozen=True, slots=True)
class Quantized:
    """MLX affine: (outputs, inputs * bits / 32) words, (outputs, inputs / group) scales, biases."""

    weight: mx.array
    scales: mx.array
    biases: mx.array
    group: int
    bits: int

    @property
    def outputs(self) -> int:
        return self.weight.shape[0]


Weight = Dense | Quantized


def activation_dtype(stored: mx.Dtype) -> mx.Dtype:
    """What to compute in: MLX's 16-bit products on a CPU are slow and, quantized, off by 4 %."""
    return mx.float32 if mx.default_device().type == mx.DeviceType.cpu else stored


def linear(x: mx.array, weight: Weight) -> mx.array:
    """(rows, inputs) to (rows, outputs), in the dtype of x."""
    if x.shape[0] == 0:  # MLX 0.32's quantized product on a CPU divides by the number of rows
        return mx.zeros((0, weight.outputs), x.dtype)
    if isinstance(weight, Quantized):
        return mx.quantized_matmul(
            x,
            weight.weight,
            weight.scales,
            weight.biases,
            transpose=True,
            group_size=weight.group,
            bits=weight.bits,
        ).astype(x.dtype)
    if weight.weight.dtype == x.dtype:
        return x @ weight.weight.T
    return _widened(x, weight.weight)


def linear_reference(x: mx.array, weight: Weight) -> mx.array:
    """The definition, in float32."""
    return (x.astype(mx.float32) @ widen(weight).T).astype(x.dtype)


def widen(weight: Weight) -> mx.array:
    """(outputs, inputs) in float32."""
    if isinstance(weight, Dense):
        return weight.weight.astype(mx.float32)
    return mx.dequantize(
        weight.weight,
        weight.scales.astype(mx.float32),
        weight.biases.astype(mx.float32),
        group_size=weight.group,
        bits=weight.bits,
    )


def _widened(x: mx.array, weight: mx.array) -> mx.array:
    """Block by block, each waiting for the one before, so that only one is ever widened."""
    block = max(1, WIDENED // weight.shape[1])
    parts: list[mx.array] = []
    for start in range(0, weight.shape[0], block):
        rows = weight[start : start + block]
        if parts:
            (rows,) = mx.depends([rows], [parts[-1]])
        parts.append(x @ rows.astype(x.dtype).T)
    return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=-1)
