"""Whole numbers and factors of superblocks, against loops over their bits."""

import mlx.core as mx
import numpy as np
import pytest

from bessemer.kernels.linear.superblocks import SUPERBLOCKS, fused


def six(words: list[int], place: int) -> int:
    if place < 15:
        return words[place // 5] >> 6 * (place % 5) & 63
    return sum((words[i] >> 30) << 2 * i for i in range(3))


def whole(mode: str, words: list[int], group: int) -> tuple[int, int]:
    """Return a group's scale, and its minimum or the code that stands for 0."""
    raw = b"".join(word.to_bytes(4, "little") for word in words)
    if mode in ("q4_k", "q5_k"):
        return six(words, group), six(words, 8 + group)
    if mode == "q2_k":
        return raw[group] & 15, raw[group] >> 4
    if mode == "q3_k":
        return six(words, group) - 32, 4
    return (raw[group] ^ 128) - 128, {"q6_k": 32, "iq4_xs": 0}[mode]


@pytest.mark.parametrize("mode", SUPERBLOCKS)
def test_scales_and_biases(mode: str) -> None:
    kind, random = SUPERBLOCKS[mode], np.random.default_rng(0)
    rows, blocks = 5, 3
    words = random.integers(0, 2**32, (rows, blocks * kind.words), dtype=np.uint32)
    factors = random.normal(size=(rows, blocks * kind.factors)).astype(np.float16)
    scales, biases = map(np.array, fused(mode, mx.array(words), mx.array(factors)))
    assert scales.shape == biases.shape == (rows, blocks * kind.groups)
    for row, block, group in np.ndindex(rows, blocks, kind.groups):
        own = words[row, block * kind.words :][: kind.words].tolist()
        factor = factors[row, block * kind.factors :][: kind.factors].astype(np.float64)
        scale, other = whole(mode, own, group)
        place = (row, block * kind.groups + group)
        assert scales[place] == factor[0] * scale
        assert biases[place] == -other * (factor[1] if kind.minimums else scales[place])
