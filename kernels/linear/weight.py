"""The weight of a linear layer as it is stored, and as the C kernels take it."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import mlx.core as mx
import numpy as np

from ..cpu.library import (
    ARRAY,
    E4M3,
    E8M0,
    INT,
    NUMBERS,
    POINTER,
    Function,
    address,
    empty,
    library,
)
from ..cpu.library import optional as optional_address
from ..cpu.memory import unwritten
from ..registry import Operation, in_c
from .superblocks import IQ4_VALUES, SUPERBLOCKS, VALUES, fused
from .superblocks import Mode as Superblocks

RUN = 32  # codes that lie together in the C kernels
FINE = 2  # as in matrix.h
GROUP_BYTES = 16  # a group of gpt-oss's codes

Mode = Literal["affine", "mxfp4", "mxfp8", "nvfp4", "symmetric", "iq4_nl", Superblocks]
# The scales' types of modes without biases, whose codes are floats: E2M1, and E4M3 in mxfp8.
SCALES: dict[Mode, int] = {"mxfp4": E8M0, "mxfp8": E8M0, "nvfp4": E4M3}
# The numbers of the other forms in kernels/cpu/matrix.h; these three are 1.
FORMS: dict[Mode, int] = {
    "affine": 0,
    "symmetric": 2,
    "iq4_nl": 3,
    "iq4_xs": 4,
    "q2_k": 5,
    "q3_k": 6,
    "q4_k": 7,
    "q5_k": 8,
    "q6_k": 9,
}
FLOATS = 1


class Matrix(ctypes.Structure):
    """A weight as the C kernels see it (kernels/cpu/matrix.h)."""

    _fields_ = (
        ("weight", POINTER),
        ("scales", POINTER),
        ("biases", POINTER),
        ("outputs", ctypes.c_int32),
        ("inputs", ctypes.c_int32),
        ("bits", ctypes.c_int32),
        ("group", ctypes.c_int32),
        ("type", ctypes.c_int32),
        ("exact", ctypes.c_int32),
        ("packed", ctypes.c_int32),
        ("paired", ctypes.c_int32),
        ("form", ctypes.c_int32),
    )


MATRIX = ctypes.POINTER(Matrix)


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """A plain weight: (outputs, inputs), any floating dtype."""

    weight: mx.array

    @property
    def outputs(self) -> int:
        return self.weight.shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """A weight in MLX's layout: (outputs, inputs * bits / 32), (outputs, inputs / group) the rest.

    Modes of floats have no biases and scales of 8 bits: `mxfp4` has 4 bits and groups of 32,
    `mxfp8` 8 bits and the same, `nvfp4` 4 bits and groups of 16. `symmetric` has no biases either:
    the middle code stands for 0. `iq4_nl` has 4 bits for numbers of a table, groups of 32, floating
    scales and no biases. The others' scales and biases are those of `superblocks`. `exact` keeps
    the activations in float32 on a CPU, where they are otherwise rounded to 8 bits in blocks, but
    for a row's outliers if `fine`; `mxfp8` is always exact. The inputs are a multiple of 32 in
    every mode.
    """

    weight: mx.array
    scales: mx.array
    biases: mx.array | None
    group: int
    bits: int
    mode: Mode = "affine"
    exact: bool = False
    fine: bool = False

    @property
    def outputs(self) -> int:
        return self.weight.shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A weight in the order of the C kernels (see `pack`); `matrix` points into `arrays`."""

    arrays: tuple[mx.array, ...]
    matrix: Matrix

    @property
    def outputs(self) -> int:
        return int(self.matrix.outputs)


Weight = Dense | Quantized | Packed


def widen(weight: Weight) -> mx.array:
    """Restore (outputs, inputs) in float32."""
    if isinstance(weight, Packed):
        return _restored(weight)
    if isinstance(weight, Dense):
        return weight.weight.astype(mx.float32)
    if is_in_mlx(weight):
        affine = weight.mode == "affine"
        return mx.dequantize(
            weight.weight,
            weight.scales.astype(mx.float32) if affine else weight.scales,
            None if weight.biases is None else weight.biases.astype(mx.float32),
            group_size=weight.group,
            bits=weight.bits,
            mode=weight.mode,
            dtype=mx.float32,
        )
    codes, flat = _codes(weight), flattened(weight)
    scales = mx.repeat(flat.scales.astype(mx.float32), weight.group, axis=-1)
    if flat.biases is None:
        return mx.array(IQ4_VALUES, mx.float32)[codes.astype(mx.uint8)] * scales
    return codes * scales + mx.repeat(flat.biases.astype(mx.float32), weight.group, axis=-1)


def flattened(weight: Quantized) -> Quantized:
    """Return the same numbers with scales of groups alone, and biases but for a table's codes."""
    if weight.mode == "symmetric":
        scales = weight.scales.astype(mx.float32)
        return replace(weight, scales=scales, biases=scales * -middle(weight.bits), mode="affine")
    if weight.mode not in SUPERBLOCKS:
        return weight
    assert weight.biases is not None
    scales, biases = fused(weight.mode, weight.scales, weight.biases)
    if weight.mode == "iq4_xs":
        return replace(weight, scales=scales, biases=None, mode="iq4_nl")
    return replace(weight, scales=scales, biases=biases, mode="affine")


def middle(bits: int) -> int:
    """Return the code that stands for 0 in a symmetric weight."""
    return 1 << bits - 1


def in_mlx(weight: Weight) -> Dense | Quantized:
    """Return the same numbers as MLX's own products take them: codes where it has such."""
    if isinstance(weight, Quantized):
        weight = flattened(weight)
    if isinstance(weight, Dense) or (isinstance(weight, Quantized) and is_in_mlx(weight)):
        return weight
    return Dense(widen(weight))


def is_in_mlx(weight: Quantized) -> bool:
    """Return whether MLX has a product of such a weight: no affine groups that are too small."""
    return weight.mode in SCALES or (weight.mode == "affine" and weight.group >= RUN)


def _codes(weight: Quantized) -> mx.array:
    """Return the codes themselves, which MLX gives as groups of scale 1, in float32."""
    groups = (*weight.weight.shape[:-1], inputs_of(weight) // RUN)
    return mx.dequantize(
        weight.weight, mx.ones(groups), mx.zeros(groups), group_size=RUN, bits=weight.bits
    )


def _unpacked(weight: Weight) -> Weight:
    return weight


@in_c("op_pack", MATRIX, takes=lambda weight: not isinstance(weight, Packed))
def _pack_c(native: Function, weight: Weight) -> Weight:
    assert not isinstance(weight, Packed)
    packed = Packed(arrays_of(weight), matrix(weight))
    native(packed.matrix)
    return packed


# The same weight as the C kernels read it fastest, in the same memory: drop the one given. Where
# there are no C kernels it is the one given, untouched.
pack = Operation("pack", _unpacked, _unpacked, _pack_c)


def _lanes() -> int:
    """Rows of a panel of the C kernels; 0 without them."""
    loaded = library()
    return 0 if loaded is None else loaded.lanes


def is_whole_panels(rows: int) -> bool:
    """Say whether matrices of so many rows, one below the other, all begin at a C kernels' panel.

    All that is laid out or read in panels asks this: gate and up, experts, heads. False without
    C kernels.
    """
    lanes = _lanes()
    return lanes > 0 and not rows % lanes


def _unpaired(gate: Dense | Quantized, up: Dense | Quantized) -> Packed | None:
    return None


def _can_pair(gate: Dense | Quantized, up: Dense | Quantized) -> bool:
    return gate.outputs == up.outputs and is_whole_panels(gate.outputs)


@in_c("op_pack_pair", MATRIX, MATRIX, MATRIX, takes=_can_pair)
def _pack_pair_c(native: Function, gate: Dense | Quantized, up: Dense | Quantized) -> Packed | None:
    arrays = [
        unwritten((2 * each.shape[0], *each.shape[1:]), each.dtype) for each in arrays_of(gate)
    ]
    packed = Packed(tuple(arrays), matrix(with_arrays(gate, arrays)))
    native(matrix(gate), matrix(up), packed.matrix)
    packed.matrix.paired = 1
    return packed if packed.matrix.packed else None  # rows of an odd number of 16-bit values


# A gate and its up projection as `gated_linear` reads them fastest, in memory of their own. Their
# panels lie in turns, so only `gated_linear` understands the result. None where there are no C
# kernels, or where their rows are no whole number of panels.
pack_pair = Operation("pack_pair", _unpaired, _unpaired, _pack_pair_c)


def matrix(weight: Weight) -> Matrix:
    """Describe a weight to C, for as long as the weight lives: evaluated arrays stay put."""
    if isinstance(weight, Packed):
        return weight.matrix
    arrays = arrays_of(weight)
    mx.eval(arrays)
    if isinstance(weight, Dense):
        number = NUMBERS[arrays[0].dtype]
        return Matrix(address(arrays[0]), None, None, *weight.weight.shape, 0, 0, number)
    inputs, factors = inputs_of(weight), weight.scales
    if weight.mode in SUPERBLOCKS:
        assert weight.biases is not None
        factors = weight.biases
    assert not inputs % (VALUES if weight.mode in SUPERBLOCKS else RUN)
    return Matrix(
        *(optional_address(array) for array in (weight.weight, weight.scales, weight.biases)),
        weight.outputs,
        inputs,
        weight.bits,
        weight.group,
        SCALES[weight.mode] if weight.mode in SCALES else NUMBERS[factors.dtype],
        FINE if weight.fine else weight.exact,
        form=FORMS.get(weight.mode, FLOATS),
    )


def inputs_of(weight: Weight) -> int:
    """Return the number of columns of the matrix that a weight stands for."""
    if isinstance(weight, Packed):
        return int(weight.matrix.inputs)
    columns = weight.weight.shape[-1]
    return columns * 32 // weight.bits if isinstance(weight, Quantized) else columns


def take_rows(weight: Dense | Quantized, rows: np.ndarray) -> Dense | Quantized:
    """Take rows (count,) in this order, as they are stored; evaluated."""
    indices = mx.array(rows.astype(np.int32))
    arrays = [array[indices] for array in arrays_of(weight)]
    mx.eval(arrays)
    return with_arrays(weight, arrays)


def with_arrays(weight: Dense | Quantized, arrays: Sequence[mx.array]) -> Dense | Quantized:
    """Store other values alike; their arrays come in the order of `arrays_of`."""
    if isinstance(weight, Dense):
        return Dense(arrays[0])
    biases = arrays[2] if weight.biases is not None else None
    return replace(weight, weight=arrays[0], scales=arrays[1], biases=biases)


def from_mxfp4_blocks(blocks: mx.array, scales: mx.array) -> Quantized:
    """Stack gpt-oss's experts, as its checkpoints hold them, one below the other, as `mxfp4`.

    blocks: (experts, rows, groups, 16) uint8, two codes a byte, the first in its low half; scales:
    (experts, rows, groups) uint8, E8M0. Both lie in memory as the result's arrays do.
    """
    experts, rows, groups, size = blocks.shape
    assert size == GROUP_BYTES and scales.shape == (experts, rows, groups)
    codes = blocks.reshape(experts * rows, groups * GROUP_BYTES).view(mx.uint32)
    return Quantized(codes, scales.reshape(experts * rows, groups), None, 32, 4, "mxfp4")


def arrays_of(weight: Dense | Quantized) -> tuple[mx.array, ...]:
    """Return the arrays that a weight is stored in, the weight first."""
    if isinstance(weight, Dense):
        return (weight.weight,)
    arrays = (weight.weight, weight.scales, weight.biases)
    return tuple(array for array in arrays if array is not None)


def _restored(weight: Packed) -> mx.array:
    loaded = library()
    assert loaded is not None
    native = loaded.function("op_embedding", MATRIX, ARRAY, INT, ARRAY)
    rows = np.arange(weight.outputs, dtype=np.int32)
    out = empty(weight.outputs, weight.matrix.inputs)
    native(weight.matrix, rows, rows.size, out)
    return mx.array(out)


def storage(weight: Weight) -> tuple[str | int | mx.Dtype, ...]:
    """Return what is equal for weights that can be joined, and that the same kernels read."""
    if isinstance(weight, Dense):
        return (weight.weight.dtype,)
    if isinstance(weight, Packed):
        return ("packed",)
    return (weight.mode, weight.scales.dtype, weight.group, weight.bits, weight.exact, weight.fine)
