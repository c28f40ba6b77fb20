"""Writes golden/sample.npz with transformers' warpers, by hand (transformers 5.23, torch 2.13)."""

# pyright: reportMissingImports=false

from pathlib import Path

import numpy as np
import torch
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

VOCABULARY = 120
SETTINGS = [  # temperature, top_k, top_p, min_p
    (1.0, 0, 1.0, 0.0),
    (0.7, 10, 1.0, 0.0),
    (1.3, 0, 0.8, 0.0),
    (0.5, 0, 0.3, 0.0),
    (1.0, 0, 1.0, 0.1),
    (1.5, 40, 0.9, 0.05),
    (0.9, 5, 0.5, 0.0),
    (2.0, 100, 0.95, 0.02),
    (1.0, 1, 0.9, 0.0),
]


def main() -> None:
    rows = np.random.RandomState(5).normal(size=(len(SETTINGS), VOCABULARY)).astype(np.float32) * 3
    chances = []
    for row, (temperature, top_k, top_p, min_p) in zip(rows, SETTINGS, strict=True):
        scores = torch.tensor(row)[None]
        scores = TemperatureLogitsWarper(temperature)(None, scores)
        if top_k:
            scores = TopKLogitsWarper(top_k)(None, scores)
        if top_p < 1:
            scores = TopPLogitsWarper(top_p)(None, scores)
        if min_p:
            scores = MinPLogitsWarper(min_p)(None, scores)
        chances.append(torch.softmax(scores, dim=-1)[0].numpy())
    history = torch.tensor([[3, 3, 7, 50, 119, 0]])
    penalized = RepetitionPenaltyLogitsProcessor(1.7)(history, torch.tensor(rows[:1])).numpy()
    np.savez_compressed(
        Path(__file__).parent / "golden" / "sample.npz",
        logits=rows,
        settings=np.array(SETTINGS),
        chances=np.array(chances),
        history=history[0].numpy(),
        penalized=penalized[0],
    )


if __name__ == "__main__":
    main()
