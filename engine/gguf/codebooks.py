"""GGUF's types of the fewest bits, as the smallest weights here that hold the very same values.

Those of codebooks say which of a grid's rows stands for 4 or 8 values. A row is a number whose
digits are the values, the first the lowest, and a grid has its rows in order; so it is carried as
the set of them. The grids are those of ggml (https://github.com/ggml-org/ggml, ggml-common.h).
"""

import base64
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

Array = np.ndarray
Parts = tuple[Array, Array, Array | None]  # as in blocks.py

_IQ2_XXS = (
    "eNp1UkuqxDAMk8Hdq5B3Hwd6gG7m/ld5tvPt0BENpLHkSG4/f+XDq1ZouUAAaigwxA64afWEFLXbz718+LoBQVCqn5eS"
    "xPakiugoSjpNT6j4xkLlkEakmrdsKvaVVzQcEqXwcY6jlFtvHa9ytE5NdA8erHrVBlu7ptfiaQ4UTzR7t0+D9Mhgk18I"
    "792/MWkMozOpYEUGZTWnjKHk4pUeVVKiD+3yaLJ11MlR6vJsezlRkya9ZIuWJs+Vsrxm3zJ8I6bZP4XaFM4G+dvYCpk3"
    "5szlEWu/YcUTjjHsvjFmaK+qB/ijNp18T/Nl/wr9TfsHxl0VIw=="
)
_IQ2_XS = (
    "eNpdUVuuhTAIHBL6j4nuhyb2vyZ2/1s5PFr13uYcxQLDzDDGuEarR6N7jN6qFMJ9iVYGEbqnDtoZlkIhZkArpNjLfqNs"
    "O5NA1bo8JYAFBDtigJd16QK0VEffvNELHLCRJGDcOCavsBSwVdr3Ft8MzBI/YyQguItPFR+YrVZ4Vig91ZxJmsCQSjFF"
    "FqbnQF6FMyWHrikZp8mrtADNKEt5SwnyPsOM0miHp4hoTq0xX7HOtDckM8rDMHs17BW3p+aFYCbtz+aGBpShy2TzehJu"
    "iNPq30xqNOkvCWeIZyg+If0x2t8iIbnQwY7bDyOfokOFu1z32/oVuavEmHEw5Vjp7gI+vAKcOd2IzVCwoLfAQE4LqnxJ"
    "7h+iL1v+XMoqbTQn0uOl7msKr70o/h/N4W2uYLIu79Po/gBOsClJ"
)
_IQ2_S = (
    "eNptUl2KBiEMa0HfK+h9KozvCvb+V9m0OrvfsivD/MXEJGpmy4a1XPAyh9Xc6l4yLVEpeAwza3usaVZxAVJAq6YppM2c"
    "JcyaLT2AlIirZCEipW1rQbmtui2WsEqz9p4y1US+1ivoUAjWzIBAV1vJISY6EP4lcShBm/Zqq+fEhfbsmg9LaCXMz/Qg"
    "xS/BAkpmUINcYMOXIGrxTSGOT9yYpnu1Vh9vI1+HvSWP7L7MthfV6UCzvw4hIPVAsBEstKF0IB8QbMGiP5Er4HetD0G6"
    "5iMyICUE/BGMWiLJM1qGQ/VNuR2K20hOIF6fghIY3ex4n3JL4FPLO2KGahul7iKdaRzznbS0y8IuF4+cfyKzQ/OKg5U5"
    "ZHDnVx3K2c/KMLms2JRQPAfAKf90WOQ7NiDh02sg9DEwGad3h46fCTlhJKkX/TCtK8h6O/yVGdg1ylcNv5Ur35q+ALm8"
    "Vh4="
)
_IQ3_XXS = (
    "eNpNUTEOwjAMPFuxVGUKQ/eKCfGKdGCHH0WdEK9g5Jn4nKZwVdUmPt+dk/llmoBLtrNpgcxqL2xYNlvgEExopeGyAckf"
    "wgsFeMBLimx5bgKYWhSzqa+QDKIVFeeu4jj5ChqqgRTblm/0xzX6nmKbNXGSntCb6DfRq7kbjTtyjSBQy66/hN+d+2xm"
    "UmVXQJrvrAzPhsIYUZoYzGd743mEKqQLVncbdJqUEUMGcbH932U9l6yoo4HjpLQ7QEI8ddpIhIPI7z1ctL8Nw3X9CxXS"
    "e8Mevst9ZNxL7bIcM/FIRlwNpv2O7piB+AIWuhT2"
)
_IQ3_S = (
    "eNotUcFKw0AQfTPMwmZPuyHiNd1GqPmKrdSDeimC+DtpqdD2luIHiFYE+5PObpzDwLw3897b5Od1br+dOV3PD9EjytdD"
    "DGeHykbz6M0QaV9LxaAG9/YTySYHhoCvdEYAri/mGWuWp8AVGyzpHKRqSU7VNugiLRq4le4VlqE1Yq3dGW4zf3k5mt4M"
    "t+bQ1aL8CW7De9Q33DihhC2qTuHOswxkQW9ZRC9bTmQJkF/p39ly7x0ItCLRqIpzONKxhbV3qioBbFrxCRYJJYaDaXOa"
    "IKOwHu6czGxUfMaWBiHvTMy8gR+y3Ee5EqiCRzaYgaxCEgSjJN8LS14gtkvdwY4GeG5tDZKUhXJ3KJUXm9K1+oxqAGx0"
    "8Jn00gqR5+yipY9QsMLkm0MX/F9rhEnkBcIeC53rpb6Gi0eXc8T8kWhylcm7/IVJG/gDusYnIA=="
)
_IQ1_S = (
    "eNotUkFLnEcYfneq4XVMZWM/QXJ696ux01kR6y3pZZFdWPRiQvIHPNm0SMk5TT4nu+mX2RRCILQ0l3EwyTgNq/FQtp+w"
    "AU9WemjprQdpPYS6HgJeGgzEzK69zbzwvM/zvM9z7UJUN2zmMlY+c3dJ2/MoKarPR4rKlQsj/YYpSkcBlflAmnTL8wd+"
    "EGLg/r4yWAqoQprMRwGup/AHg4kMk6hO1ZlrWMlNbBvS4yDHnLe4v44oBAQu4QW5hPhj/CVztNu8Z5v+0s3DTralhlpx"
    "tvvn0EMWQ0xOZ1wxBDn7t/08pqKF5dKy1wLjXFA4omigUrhaN8g+dpeopuhqkGEJH81HTGLLqcRUGaGyi5aJnyTWw3sK"
    "KyXoKjQwcxkquU8VaCVxZSrqD5bFqXjGyEug4Re6KVy24t3XoDgyEbMaKKgmprMh/TY1srjz17NGY8k9DP8bDV0+K6la"
    "Kwkt0dPObza26z+afx0DBtKlQIlpWCsyk6hpnrVb2btDa4oWNRcdCyvT7OzxamfvddFNfte+dXj83+2Xr77J9r54+8nJ"
    "y/Hj4YN/dJz37aGax003qJon2djBnaRvYWLxyPHVIgTLuO+HgSnJn9Kv6t4DJcDC/eQjUIjwlfZ+iz1ta7PLki+/n/x9"
    "8yCv8pN+T4z88aQPePcOhLkVUv5iFk/XzEAyCtousOWoHA5VeK56KXsS/ls+3Eu532C3NjlipmRjSAEtXtdLLe8TIK72"
    "d+IClruoAU0joVF3OXopE+BdVMFBb+E+pYqPhgi89XqjwbgMFCrxXKCAtZTFpj0oWqizuc1gefVN09MVsfizmXqVcBaa"
    "cH0hFIl5X/Qdu2YsYp6MjkENnabMexVdOwOznuETyH9Y/j/l/lBp9fyIACBw8Yw6loGqDoiDCM7NVbrdcKynMB3DVPAS"
    "hkmwzLoLc+8B4wUZaQ=="
)


@dataclass(frozen=True)
class Grid:
    """Rows of `digits` values, each below `base`; `packed` has a bit for each row there may be."""

    packed: str
    base: int
    digits: int

    @cached_property
    def rows(self) -> Array:
        """The rows there are, (rows, digits) uint8."""
        bits = np.frombuffer(zlib.decompress(base64.b64decode(self.packed)), np.uint8)
        numbers = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
        rows: Array = numbers[:, None] // self.base ** np.arange(self.digits) % self.base
        return rows.astype(np.uint8)


IQ2_XXS, IQ2_XS, IQ2_S = (Grid(packed, 3, 8) for packed in (_IQ2_XXS, _IQ2_XS, _IQ2_S))
IQ3_XXS, IQ3_S = (Grid(packed, 8, 4) for packed in (_IQ3_XXS, _IQ3_S))
IQ1 = Grid(_IQ1_S, 3, 8)
TWOS = np.array([8, 25, 43], np.int8)  # the values of the digits, in IQ2
THREES = np.array([4, 12, 20, 28, 36, 44, 52, 62], np.int8)  # in IQ3_XXS; IQ3_S has odd numbers
# Signs of 8 values in 7 bits: the last is such that there is an even number of negative ones.
EVEN = np.array([i | (i.bit_count() & 1) << 7 for i in range(128)], np.uint8)
ZERO = 128  # the code of 8 bits that stands for 0


def _halves(raw: Array) -> Array:
    """Read 16-bit floats that follow each other, (blocks, 2 * count) bytes."""
    return np.ascontiguousarray(raw).view(np.float16)


def _factors(raw: Array) -> Array:
    return _halves(raw).astype(np.float32)


def _split(raw: Array, bits: int) -> Array:
    """Return numbers of 1, 2 or 4 bits of each byte, the lowest first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    numbers: Array = raw[..., None] >> shifts & ((1 << bits) - 1)
    return numbers.reshape(len(raw), -1)


def _signed(values: Array, signs: Array, scales: Array) -> Parts:
    """Return codes of 8 bits for values (blocks, values) where `signs` has a bit for each."""
    codes = np.where(_split(signs, 1), -values, values).view(np.uint8) ^ ZERO
    return codes, scales, scales * np.float32(-ZERO)


def _taken(grid: Grid, index: Array) -> Array:
    """Return the digits of the grid's rows of an index, (blocks, values)."""
    digits: Array = grid.rows[index].reshape(len(index), -1)
    return digits


def _packed_signs(words: Array) -> tuple[Array, Array]:
    """Return signs of 8 values, four a word, and the number in the highest bits of the word."""
    index = words[..., None] >> np.arange(0, 28, 7, dtype=np.uint32) & 127
    return EVEN[index].reshape(len(words), -1), words >> 28


def _iq2_xxs(raw: Array) -> Parts:
    words = np.ascontiguousarray(raw[:, 2:]).view(np.uint32).reshape(len(raw), 8, 2)
    signs, scales = _packed_signs(words[..., 1])
    index = np.ascontiguousarray(words[..., 0]).view(np.uint8)
    factors = _factors(raw[:, :2]) * (scales * 2 + 1).astype(np.float32) / 8
    return _signed(TWOS[_taken(IQ2_XXS, index)], signs, factors)


def _eighths(raw: Array, scales: Array) -> Array:
    """Return the scales of IQ2_XS and IQ2_S, of 4 bits each, by 16 values."""
    return _factors(raw) * (_split(scales, 4) * 2 + 1).astype(np.float32) / 8


def _iq2_xs(raw: Array) -> Parts:
    words = np.ascontiguousarray(raw[:, 2:66]).view(np.uint16)
    values = TWOS[_taken(IQ2_XS, words & 511)]
    return _signed(values, EVEN[words >> 9], _eighths(raw[:, :2], raw[:, 66:]))


def _iq2_s(raw: Array) -> Parts:
    index = raw[:, 2:34] | _split(raw[:, 66:74], 2).astype(np.uint16) << 8
    values = TWOS[_taken(IQ2_S, index)]
    return _signed(values, raw[:, 34:66], _eighths(raw[:, :2], raw[:, 74:]))


def _iq3_xxs(raw: Array) -> Parts:
    signs, scales = _packed_signs(np.ascontiguousarray(raw[:, 66:]).view(np.uint32))
    factors = _factors(raw[:, :2]) * (scales * 2 + 1).astype(np.float32) / 4
    return _signed(THREES[_taken(IQ3_XXS, raw[:, 2:66])], signs, factors)


def _iq3_s(raw: Array) -> Parts:
    """Take odd numbers from -15 to 15, which are codes of 4 bits."""
    index = raw[:, 2:66] | _split(raw[:, 66:74], 1).astype(np.uint16) << 8
    digits, negative = _taken(IQ3_S, index), _split(raw[:, 74:106], 1)
    factors = _factors(raw[:, :2]) * (_split(raw[:, 106:], 4) * 2 + 1)
    return np.where(negative, 7 - digits, 8 + digits), factors * 2, factors * np.float32(-15)


def _iq1_s(raw: Array) -> Parts:
    """Take -1, 0 and 1, all of 32 an eighth more or less."""
    words = np.ascontiguousarray(raw[:, 34:]).view(np.uint16)
    high = (words[..., None] >> np.arange(0, 12, 3, dtype=np.uint16) & 7).reshape(len(raw), -1)
    factors = _factors(raw[:, :2]) * ((words >> 12 & 7) * 2 + 1)
    shift = np.where(words >> 15, np.float32(-9 / 8), np.float32(-7 / 8))
    return _taken(IQ1, raw[:, 2:34] | high << 8), factors, factors * shift


def _iq1_m(raw: Array) -> Parts:
    """Take the same by 8, with a scale by 16: eighths from -9 to 9 of which every second counts."""
    words = np.ascontiguousarray(raw[:, 48:]).view(np.uint16)
    factor = np.bitwise_or.reduce(words >> 12 << np.arange(0, 16, 4, dtype=np.uint16), axis=1)
    scales = words[..., None] >> np.arange(0, 12, 3, dtype=np.uint16) & 7
    high = _split(raw[:, 32:48], 4)
    digits = _taken(IQ1, raw[:, :32] | (high & 7).astype(np.uint16) << 8)
    codes = digits * 4 + (high >> 3 ^ 1).repeat(8, axis=1)
    odd = (scales * 2 + 1).reshape(len(raw), -1).astype(np.float32)
    factors = factor.view(np.float16)[:, None].astype(np.float32) * odd
    return codes, factors / 4, factors * np.float32(-9 / 8)


def _whole(codes: Array, factors: Array, times: int) -> Parts:
    """Return codes above -1 of one 16-bit factor, for `times` groups."""
    scales = factors.repeat(times, axis=1)
    return codes, scales, -scales


def _tq1_0(raw: Array) -> Parts:
    """Take five digits to a byte: of 32 bytes, of 16, and four of the last 4."""
    powers = np.array([1, 3, 9, 27, 81], np.uint8)
    parts = ((raw[:, :32], 5), (raw[:, 32:48], 5), (raw[:, 48:52], 4))
    bytes = [(part[:, None] * powers[:count, None]).reshape(len(raw), -1) for part, count in parts]
    codes = np.concatenate(bytes, axis=1).astype(np.uint16) * 3 >> 8
    return _whole(codes.astype(np.uint8), _halves(raw[:, 52:]), 2)


def _tq2_0(raw: Array) -> Parts:
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    codes = raw[:, :64].reshape(-1, 2, 1, 32) >> shifts & 3
    return _whole(codes.reshape(len(raw), -1), _halves(raw[:, 64:]), 2)


def _q1_0(raw: Array) -> Parts:
    return _whole(_split(raw[:, 2:], 1) * 2, _halves(raw[:, :2]), 1)


# The bits of a code, how a block is taken apart, and how many values share a scale.
CODEBOOKS: Mapping[str, tuple[int, Callable[[Array], Parts], int]] = {
    "IQ1_S": (2, _iq1_s, 32),
    "IQ1_M": (4, _iq1_m, 16),
    "IQ2_XXS": (8, _iq2_xxs, 32),
    "IQ2_XS": (8, _iq2_xs, 16),
    "IQ2_S": (8, _iq2_s, 16),
    "IQ3_XXS": (8, _iq3_xxs, 32),
    "IQ3_S": (4, _iq3_s, 32),
    "TQ1_0": (2, _tq1_0, 128),
    "TQ2_0": (2, _tq2_0, 128),
    "Q1_0": (2, _q1_0, 128),
}
