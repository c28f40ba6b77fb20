"""Scales of two levels: whole numbers of small groups, times factors that 256 values share.

GGUF's K types and IQ4_XS are so. A weight of such a mode has 32-bit words of whole numbers as its
scales and 16-bit factors as its biases, both in the order of rows and their superblocks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import mlx.core as mx

VALUES = 256  # of a superblock
Mode = Literal["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs"]
# The numbers that IQ4's codes stand for (ggml-common.h, kvalues_iq4nl).
IQ4_VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


@dataclass(frozen=True, slots=True)
class Superblock:
    """A mode: codes of `bits` by `group`, and `words` that hold the groups' whole numbers.

    `whole` reads them, (..., words) to (..., numbers): one for each group, or all groups' scales
    and then their minimums, for which there is a second factor. A code of `zero` stands for 0.
    """

    bits: int
    group: int
    words: int
    whole: Callable[[mx.array], mx.array]
    zero: int = 0
    minimums: bool = False

    @property
    def groups(self) -> int:
        return VALUES // self.group

    @property
    def factors(self) -> int:
        return 1 + self.minimums


def fused(mode: str, words: mx.array, factors: mx.array) -> tuple[mx.array, mx.array]:
    """Return scales and biases in float32, (..., groups): a value is scale * code + bias.

    words: (..., superblocks * words), factors: (..., superblocks * factors), float16. Each product
    is exact in float32.
    """
    kind, rows = SUPERBLOCKS[mode], words.shape[:-1]
    whole = kind.whole(words.reshape(*rows, -1, kind.words)).astype(mx.float32)
    each = factors.astype(mx.float32).reshape(*rows, -1, kind.factors)
    scales = each[..., :1] * whole[..., : kind.groups]
    zero = each[..., 1:] * whole[..., kind.groups :] if kind.minimums else scales * kind.zero
    return scales.flatten(-2), -zero.flatten(-2)


def _sixes(words: mx.array) -> mx.array:
    """Return the 16 numbers of 6 bits in 3 words: 5 in each, the last in the bits above them."""
    five = (words[..., None] >> mx.arange(0, 30, 6, dtype=mx.uint32) & 63).flatten(-2)
    two = words >> 30
    last = two[..., :1] | two[..., 1:2] << 2 | two[..., 2:] << 4
    return mx.concatenate([five, last], axis=-1)


def _centred_sixes(words: mx.array) -> mx.array:
    return _sixes(words).astype(mx.int32) - 32


def _halves(words: mx.array) -> mx.array:
    """Return the low halves of the bytes of words, then the high ones."""
    raw = words.view(mx.uint8)
    return mx.concatenate([raw & 15, raw >> 4], axis=-1)


def _signed(words: mx.array) -> mx.array:
    return words.view(mx.int8)


SUPERBLOCKS: Mapping[str, Superblock] = MappingProxyType(
    {
        "q2_k": Superblock(2, 16, 4, _halves, minimums=True),
        "q3_k": Superblock(3, 16, 3, _centred_sixes, zero=4),
        "q4_k": Superblock(4, 32, 3, _sixes, minimums=True),
        "q5_k": Superblock(5, 32, 3, _sixes, minimums=True),
        "q6_k": Superblock(6, 16, 4, _signed, zero=32),
        "iq4_xs": Superblock(4, 32, 2, _signed),
    }
)
