"""GGUF's types: blocks of numbers, and how each becomes a weight of the very same values.

A block's layout is that of ggml's dequantization (https://github.com/ggml-org/ggml, ggml-quants.c).
All but the floating types are codes with scales by groups, as a `Mode` of kernels.linear.weight has
them: plain scales and biases, or whole numbers and the factors of a superblock.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import mlx.core as mx
import numpy as np

from ...kernels.linear.blocks import take_apart
from ...kernels.linear.superblocks import SUPERBLOCKS
from ...kernels.linear.weight import Mode, Quantized, arrays_of, flattened
from .block_types import TYPES, Type
from .codebooks import CODEBOOKS

Array = np.ndarray
Parts = tuple[Array, Array, Array | None]  # codes, scales and biases of blocks, (blocks, ...)
AT_ONCE = 1 << 17  # values that are converted together, so that they stay in a cache


@dataclass(frozen=True, slots=True)
class Blocks:
    """A type whose blocks become codes of `bits` that share scales by `group`.

    `parts` takes blocks apart, (blocks, bytes) uint8.
    """

    type: Type
    bits: int
    parts: Callable[[Array], Parts]
    group: int = 32
    mode: Mode = "affine"

    def loaded_bytes(self, count: int, by_groups: bool = False) -> int:
        """Return what so many values take as a weight, `by_groups` where it is `flattened`."""
        weight = self._weight(self._one)
        arrays = arrays_of(flattened(weight) if by_groups else weight)
        return count // self.type.values * sum(array.nbytes for array in arrays)

    def matrix(self, raw: Array, exact: bool = False) -> Quantized:
        """Return the weight of rows of blocks, (rows, bytes of a row) uint8."""
        arrays = take_apart(self.type.name, raw, self.type.bytes, self._one)
        return self._weight(self._in_numpy(raw) if arrays is None else arrays, exact)

    def _weight(self, arrays: Sequence[mx.array], exact: bool = False) -> Quantized:
        codes, scales, biases = (*arrays, None)[:3]
        assert codes is not None and scales is not None
        return Quantized(codes, scales, biases, self.group, self.bits, self.mode, exact)

    @property
    def _one(self) -> Sequence[mx.array]:
        return self._in_numpy(np.zeros((1, self.type.bytes), np.uint8))

    def _in_numpy(self, raw: Array) -> list[mx.array]:
        step = max(AT_ONCE // (raw.shape[1] // self.type.bytes * self.type.values), 1)
        cuts = [self._rows(raw[at : at + step]) for at in range(0, len(raw), step)]
        parts = [[part for part in each if part is not None] for each in zip(*cuts, strict=True)]
        return [mx.array(np.concatenate(part)) for part in parts if part]

    def _rows(self, raw: Array) -> Parts:
        """Return the arrays of some rows."""
        codes, scales, biases = self.parts(raw.reshape(-1, self.type.bytes))
        count = len(raw)
        return (
            packed(codes.reshape(count, -1), self.bits),
            scales.reshape(count, -1),
            None if biases is None else biases.reshape(count, -1),
        )


def packed(codes: Array, bits: int) -> Array:
    """Return codes (rows, columns) uint8 as MLX has them: one after the other in 32-bit words."""
    rows, columns = codes.shape
    codes = np.ascontiguousarray(codes)
    if 8 % bits == 0:
        while bits < 8:  # two codes in a byte, then four
            pairs = codes.view(np.uint16)
            codes, bits = (pairs | pairs >> 8 - bits).astype(np.uint8), 2 * bits
        return codes.view(np.uint32)
    eight = codes.view(np.uint64)  # a code in each byte
    for width in (1, 2, 4):  # codes side by side, in pairs, in fours, in eights
        low = np.uint64(sum(((1 << bits * width) - 1) << 16 * width * i for i in range(4 // width)))
        gap = np.uint64((8 - bits) * width)
        eight = (eight & low) | ((eight >> gap) & (low << np.uint64(bits * width)))
    lowest = eight.reshape(-1, 1).view(np.uint8)[:, :bits].reshape(-1)
    return lowest.view(np.uint32).reshape(rows, columns * bits // 32)


def _halves(raw: Array) -> Array:
    """Read 16-bit floats that follow each other, (blocks, 2 * count) bytes."""
    return np.ascontiguousarray(raw).view(np.float16)


def _nibbles(raw: Array) -> Array:
    """Return the low halves of all bytes, then the high ones."""
    count = raw.shape[-1]
    codes = np.empty((*raw.shape[:-1], 2 * count), np.uint8)
    np.bitwise_and(raw, 15, out=codes[..., :count])
    np.right_shift(raw, 4, out=codes[..., count:])
    return codes


def _q4_0(raw: Array) -> Parts:
    return _nibbles(raw[:, 2:]), _halves(raw[:, :2]), None


def _q4_1(raw: Array) -> Parts:
    scales = _halves(raw[:, :4])
    return _nibbles(raw[:, 4:]), scales[:, :1], scales[:, 1:]


def _fifth(raw: Array) -> Array:
    """Return the codes of 4 bytes of fifth bits, then 16 of the four others."""
    high = np.unpackbits(raw[:, :4], axis=-1, bitorder="little")
    codes: Array = _nibbles(raw[:, 4:]) | high << 4
    return codes


def _q5_0(raw: Array) -> Parts:
    return _fifth(raw[:, 2:]), _halves(raw[:, :2]), None


def _q5_1(raw: Array) -> Parts:
    scales = _halves(raw[:, :4])
    return _fifth(raw[:, 4:]), scales[:, :1], scales[:, 1:]


def _q8_0(raw: Array) -> Parts:
    return raw[:, 2:] ^ 128, _halves(raw[:, :2]), None


def _mxfp4(raw: Array) -> Parts:
    return _nibbles(raw[:, 1:]), raw[:, :1], None


def _nvfp4(raw: Array) -> Parts:
    """Take scales without signs, of which the largest stands for 0."""
    scales, codes = raw[:, :4] & 127, _nibbles(raw[:, 4:].reshape(-1, 4, 8))
    return codes.reshape(len(raw), -1), np.where(scales == 127, 0, scales).astype(np.uint8), None


def _six_bits(raw: Array) -> Array:
    """Return the 8 scales and 8 minimums of 6 bits each that lie in 12 bytes."""
    low, middle, rest = raw[:, :4], raw[:, 4:8], raw[:, 8:]
    more = (rest & 15) | (low >> 2 & 48), (rest >> 4) | (middle >> 2 & 48)
    return np.concatenate([low & 63, more[0], middle & 63, more[1]], axis=1)


def _in_words(sixes: Array) -> Array:
    """Return 16 numbers of 6 bits in 3 words: 5 in each, the last in the bits above them."""
    wide = sixes.astype(np.uint32)
    last = wide[:, 15:] >> np.arange(0, 6, 2, dtype=np.uint32) & 3
    shifts = np.arange(0, 30, 6, dtype=np.uint32)
    words: Array = (wide[:, :15].reshape(-1, 3, 5) << shifts).sum(axis=2, dtype=np.uint32)
    words |= last << np.uint32(30)
    return words


def _words(raw: Array) -> Array:
    return np.ascontiguousarray(raw).view(np.uint32)


def _q4_k(raw: Array) -> Parts:
    codes = _nibbles(raw[:, 16:].reshape(-1, 4, 32)).reshape(-1, 256)
    return codes, _in_words(_six_bits(raw[:, 4:16])), _halves(raw[:, :4])


def _q5_k(raw: Array) -> Parts:
    low = _nibbles(raw[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    high = raw[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    codes = (low | high << 4).reshape(-1, 256)
    return codes, _in_words(_six_bits(raw[:, 4:16])), _halves(raw[:, :4])


def _twos(raw: Array) -> Array:
    """Return the codes of 2 bits in bytes of 4, which lie 32 apart: four times as many."""
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    codes: Array = raw.reshape(len(raw), -1, 1, 32) >> shifts & 3
    return codes.reshape(len(raw), -1)


def _q2_k(raw: Array) -> Parts:
    return _twos(raw[:, 16:80]), _words(raw[:, :16]), _halves(raw[:, 80:])


def _q3_k(raw: Array) -> Parts:
    high = raw[:, None, :32] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    low, two = _nibbles(raw[:, 96:104]), _twos_of_scales(raw[:, 104:108])
    codes = _twos(raw[:, 32:96]) | high.reshape(-1, 256) << 2
    return codes, _in_words(low | two << 4), _halves(raw[:, 108:])


def _twos_of_scales(raw: Array) -> Array:
    bits: Array = raw[:, None, :] >> np.arange(0, 8, 2, dtype=np.uint8)[:, None] & 3
    return bits.reshape(len(raw), -1)


def _q6_k(raw: Array) -> Parts:
    low = _nibbles(raw[:, :128].reshape(-1, 2, 64)).reshape(-1, 256)
    return low | _twos(raw[:, 128:192]) << 4, _words(raw[:, 192:208]), _halves(raw[:, 208:])


def _iq4_nl(raw: Array) -> Parts:
    return _nibbles(raw[:, 2:]), _halves(raw[:, :2]), None


def _iq4_xs(raw: Array) -> Parts:
    high = np.ascontiguousarray(raw[:, 2:4]).view(np.uint16)
    shifts = np.arange(8, dtype=np.uint16)
    low = raw[:, 4:8].repeat(2, axis=1) >> (np.arange(8, dtype=np.uint8) % 2 * 4) & 15
    scales = (low | ((high >> 2 * shifts) & 3) << 4).astype(np.int8) - np.int8(32)
    codes = _nibbles(raw[:, 8:].reshape(-1, 8, 16)).reshape(-1, 256)
    return codes, _words(scales), _halves(raw[:, :2])


# How a block is taken apart, and the mode of what it becomes.
_WAYS: Mapping[str, tuple[Callable[[Array], Parts], Mode]] = {
    "Q4_0": (_q4_0, "symmetric"),
    "Q4_1": (_q4_1, "affine"),
    "Q5_0": (_q5_0, "symmetric"),
    "Q5_1": (_q5_1, "affine"),
    "Q8_0": (_q8_0, "symmetric"),
    "Q2_K": (_q2_k, "q2_k"),
    "Q3_K": (_q3_k, "q3_k"),
    "Q4_K": (_q4_k, "q4_k"),
    "Q5_K": (_q5_k, "q5_k"),
    "Q6_K": (_q6_k, "q6_k"),
    "IQ4_NL": (_iq4_nl, "iq4_nl"),
    "IQ4_XS": (_iq4_xs, "iq4_xs"),
    "MXFP4": (_mxfp4, "mxfp4"),
    "NVFP4": (_nvfp4, "nvfp4"),
}
_BITS = {"Q5_0": 5, "Q5_1": 5, "Q8_0": 8}  # of the others without superblocks it is 4


def _blocks(type: Type) -> Blocks:
    if type.name in CODEBOOKS:
        return Blocks(type, *CODEBOOKS[type.name])
    parts, mode = _WAYS[type.name]
    if mode in SUPERBLOCKS:
        kind = SUPERBLOCKS[mode]
        return Blocks(type, kind.bits, parts, kind.group, mode)
    group = 16 if mode == "nvfp4" else 32
    return Blocks(type, _BITS.get(type.name, 4), parts, group, mode)


BLOCKS: Mapping[str, Blocks] = MappingProxyType(
    {each.name: _blocks(each) for each in TYPES.values() if each.name in {*_WAYS, *CODEBOOKS}}
)
