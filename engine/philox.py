"""Philox4x64-10, the stream of NumPy's `Philox(key=seed)`, read at any position."""

from functools import lru_cache

ROUNDS = 10
MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
WEYL = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B  # what the key grows by each round
MASK = 2**64 - 1


def uniform(seed: int, position: int) -> float:
    """Return the number in [0, 1) for the token after `position` generated ones; seed: 64 bits."""
    return _block(seed & MASK, position // 4)[position % 4]


@lru_cache(maxsize=1024)  # four tokens share a block
def _block(key: int, index: int) -> tuple[float, ...]:
    """Return numbers 4 * index to 4 * index + 3 of the stream; NumPy counts blocks from 1."""
    a, b, c, d = index + 1, 0, 0, 0
    other = 0
    for _ in range(ROUNDS):
        left, right = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b = right >> 64 ^ b ^ key, right & MASK
        c, d = left >> 64 ^ d ^ other, left & MASK
        key, other = key + WEYL[0] & MASK, other + WEYL[1] & MASK
    return tuple((word >> 11) * 2.0**-53 for word in (a, b, c, d))
