"""Writes golden/gated_delta.npz with transformers' own rule, by hand (transformers 5.23, torch)."""

# pyright: reportMissingImports=false

from pathlib import Path

import numpy as np
import torch
from transformers.models.qwen3_next.modeling_qwen3_next import torch_recurrent_gated_delta_rule

TOKENS, KEY_HEADS, HEADS, KEY_DIM, VALUE_DIM = 6, 2, 4, 8, 12


def main() -> None:
    state = np.random.RandomState(3)

    def normal(*shape: int) -> np.ndarray:
        return state.standard_normal(shape).astype(np.float32)

    arrays = {
        "q": normal(1, TOKENS, KEY_HEADS, KEY_DIM),
        "k": normal(1, TOKENS, KEY_HEADS, KEY_DIM),
        "v": normal(1, TOKENS, HEADS, VALUE_DIM),
        "g": -np.abs(normal(1, TOKENS, HEADS)),
        "beta": 1 / (1 + np.exp(-normal(1, TOKENS, HEADS))),
        "state": normal(1, HEADS, KEY_DIM, VALUE_DIM),
    }
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    out, last = torch_recurrent_gated_delta_rule(
        tensors["q"],
        tensors["k"],
        tensors["v"],
        tensors["g"],
        tensors["beta"],
        initial_state=tensors["state"],
        output_final_state=True,
        use_qk_l2norm_in_kernel=True,
    )
    np.savez_compressed(
        Path(__file__).parent / "golden" / "gated_delta.npz",
        out=out[0].numpy(),
        last=last[0].numpy(),
        **{name: array[0] for name, array in arrays.items()},
    )


if __name__ == "__main__":
    main()
