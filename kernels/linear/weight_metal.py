"""A weight as those Metal kernels take it that work on dense and quantized rows alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import mlx.core as mx

from ..metal.library import Value, padded
from .weight import Dense, Mode, Quantized, Weight

FLOATS = (mx.float32, mx.float16, mx.bfloat16)
MXFP4 = 41
# Formats as in kernels/metal/quantized.h; affine ones are their bits.
FORMATS: Mapping[Mode, int] = MappingProxyType(
    {
        "mxfp4": MXFP4,
        "q2_k": 20,
        "q3_k": 30,
        "q4_k": 40,
        "q5_k": 50,
        "q6_k": 60,
        "iq4_nl": 42,
        "iq4_xs": 43,
    }
)
SYMMETRIC: Mapping[int, int] = MappingProxyType({4: 44, 5: 54, 8: 84})  # by bits
DENSE, RUN = 0, 8  # a format (kernels/metal/weight.h), and the numbers that a lane takes of it


@dataclass(frozen=True, slots=True)
class MetalWeight:
    """A weight as kernels/metal/weight.h takes it."""

    arrays: tuple[mx.array, mx.array, mx.array]
    kind: int  # FORMAT
    group: int  # GROUP

    @property
    def template(self) -> dict[str, Value]:
        return {"W": self.arrays[0].dtype} | self.codes

    @property
    def codes(self) -> dict[str, Value]:
        """The template of kernels that take no dense weights."""
        return {"S": self.arrays[1].dtype, "FORMAT": self.kind, "GROUP": self.group}


def format_of(weight: Quantized) -> int | None:
    """Return the format's number in kernels/metal/quantized.h; None where no kernel takes it."""
    if weight.mode == "symmetric":
        return SYMMETRIC.get(weight.bits)
    return weight.bits if weight.mode == "affine" else FORMATS.get(weight.mode)


def metal_weight(weight: Weight) -> MetalWeight:
    """Return a weight that the kernels take as they take it."""
    stored = as_metal(weight)
    assert stored is not None
    return stored


def as_metal(weight: Weight) -> MetalWeight | None:
    """Return the weight as the kernels take it; None where they do not."""
    if isinstance(weight, Quantized):
        biases = weight.scales if weight.biases is None else weight.biases
        kind = format_of(weight)
        if kind is None:
            return None
        arrays = (padded(weight.weight), padded(weight.scales), padded(biases))
        return MetalWeight(arrays, kind, weight.group)
    if not isinstance(weight, Dense) or weight.weight.dtype not in FLOATS:
        return None
    values = weight.weight
    if values.shape[-1] % RUN:
        return None
    return MetalWeight((values, values, values), DENSE, 32)
