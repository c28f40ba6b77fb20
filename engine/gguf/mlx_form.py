"""What becomes of a GGUF file's numbers in MLX's layout: the very same ones, or the next to them.

MLX has scales for 32 numbers at least, or floats of 4 bits; K types have some for 16, so that they
can be the same only where they are 8 bits and rounded.
"""

from dataclasses import dataclass, replace
from functools import cache

import mlx.core as mx
import numpy as np

from ...architectures.storage import Stored
from ...kernels.linear.superblocks import IQ4_VALUES
from ...kernels.linear.weight import Quantized, arrays_of, flattened, widen, with_arrays
from ..checkpoint.weights import MIN_COLUMNS
from .blocks import BLOCKS

EIGHT = Stored(32, 8)  # of what is rounded
AT_ONCE = 1 << 24  # numbers that are rounded together
ZERO = 128  # the code of 8 bits that stands for 0
CODES_OF_IQ4 = np.array(IQ4_VALUES, np.int8).view(np.uint8) ^ ZERO


@dataclass(frozen=True, slots=True)
class Error:
    """The squares of what numbers are off, and of the numbers."""

    off: float = 0.0
    of: float = 0.0

    def __add__(self, other: "Error") -> "Error":
        return Error(self.off + other.off, self.of + other.of)

    @property
    def relative(self) -> float:
        return (self.off / self.of) ** 0.5 if self.of else 0.0


@cache
def is_exact(type: str) -> bool:
    """Return whether MLX's layout has the very numbers of a type in blocks."""
    blocks = BLOCKS[type]
    return in_mlx_layout(blocks.matrix(np.zeros((1, blocks.type.bytes), np.uint8))) is not None


def in_mlx_layout(weight: Quantized) -> Quantized | None:
    """Return the same numbers in MLX's layout; None where it has no groups so small."""
    weight = flattened(weight)
    if weight.mode == "iq4_nl":
        weight = _in_eight_bits(weight)
    if weight.mode != "affine":
        return weight
    return None if weight.group < MIN_COLUMNS else _narrowed(weight)


def in_halves(weight: Quantized) -> tuple[Quantized, Error]:
    """Return a weight of MLX's with scales and biases of 16 bits, next to this one."""
    if weight.biases is None or weight.scales.dtype == mx.float16:
        return weight, Error()
    near = replace(weight, scales=_half(weight.scales), biases=_half(weight.biases))
    return near, error_of(widen(near), widen(weight))


def rounded(weight: Quantized) -> tuple[Quantized, Error]:
    """Return a weight of 8 bits next to this one."""
    above, width = weight.weight.shape[:-1], weight.weight.shape[-1] * 32 // weight.bits
    flat = [array.reshape(-1, array.shape[-1]) for array in arrays_of(weight)]
    parts, error, step = [], Error(), max(AT_ONCE // width, 1)
    for at in range(0, len(flat[0]), step):
        numbers = widen(with_arrays(weight, [array[at : at + step] for array in flat]))
        codes, scales, biases = mx.quantize(numbers, EIGHT.group, EIGHT.bits)
        near = Quantized(codes, _half(scales), _half(biases), EIGHT.group, EIGHT.bits)
        mx.eval(arrays_of(near))
        error += error_of(widen(near), numbers)
        parts.append(arrays_of(near))
    joined = [mx.concatenate([part[i] for part in parts]).reshape(*above, -1) for i in range(3)]
    return Quantized(joined[0], joined[1], joined[2], EIGHT.group, EIGHT.bits), error


def _in_eight_bits(weight: Quantized) -> Quantized:
    """Return IQ4's numbers, which lie on no line, by codes of 8 bits, which do."""
    raw = np.array(weight.weight).view(np.uint8)
    codes = CODES_OF_IQ4[np.stack([raw & 15, raw >> 4], axis=-1)]
    words = codes.reshape(*raw.shape[:-1], -1).view(np.uint32)
    scales = weight.scales.astype(mx.float32)
    return Quantized(mx.array(words), scales, scales * -ZERO, weight.group, 8)


def _narrowed(weight: Quantized) -> Quantized:
    """Return scales and biases of 16 bits where these are the same numbers."""
    assert weight.biases is not None
    halves = _half(weight.scales), _half(weight.biases)
    wide = weight.scales, weight.biases
    same = all(map(mx.array_equal, (each.astype(mx.float32) for each in halves), wide))
    return replace(weight, scales=halves[0], biases=halves[1]) if same else weight


def _half(array: mx.array) -> mx.array:
    return array.astype(mx.float16)


def error_of(near: mx.array, numbers: mx.array) -> Error:
    """Return how far float32 numbers are off."""
    return Error(float(mx.square(near - numbers).sum()), float(mx.square(numbers).sum()))
