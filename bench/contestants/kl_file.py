"""The file from which llama-perplexity reads the probabilities that it compares with its own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

LOWEST = 16.0  # below the likeliest: less likely tokens count as that, as llama.cpp writes them
STEPS = 65535


def write(path: Path, windows: Sequence[Sequence[int]], oracle: Sequence[Floats]) -> None:
    """Write windows of tokens, and log probabilities of the later half's positions, in 16 bits."""
    vocabulary = oracle[0].shape[1]
    with path.open("wb") as file:
        file.write(b"_logits_")
        file.write(np.array([len(windows[0]), vocabulary, len(windows)], np.int32).tobytes())
        file.write(np.array(windows, np.int32).tobytes())
        for rows in oracle:
            file.write(coded(rows).tobytes())


def coded(rows: Floats) -> np.ndarray:
    """Return (rows, 4 + vocabulary) uint16, an even number: a step, the lowest, then steps."""
    highest = rows.max(-1, keepdims=True)
    lowest = np.maximum(rows.min(-1, keepdims=True), highest - np.float32(LOWEST))
    step = (highest - lowest) / np.float32(STEPS)
    steps = np.rint((np.maximum(rows, lowest) - lowest) / np.where(step > 0, step, 1))
    odd = np.zeros((len(rows), rows.shape[1] % 2), np.uint16)
    head = np.concatenate([step, lowest], -1).astype(np.float32).view(np.uint16)
    return np.concatenate([head, steps.astype(np.uint16), odd], -1)
