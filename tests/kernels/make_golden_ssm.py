"""Writes golden/ssm_scan.npz and gated_norm.npz with transformers' own layers, by hand (5.23)."""

# pyright: reportMissingImports=false

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.models.mamba2.modeling_mamba2 import MambaRMSNormGated, mamba2_chunk_scan
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextRMSNormGated

TOKENS, GROUPS, HEADS, HEAD_DIM, STATE_DIM, CHUNK = 7, 2, 4, 6, 20, 3
LIMITS = (0.05, 1.5)
PARTS, WIDTH, EPS = 3, 24, 0.01
GOLDEN = Path(__file__).parent / "golden"


def main() -> None:
    state = np.random.RandomState(4)

    def normal(*shape: int) -> np.ndarray:
        return state.standard_normal(shape).astype(np.float32)

    scan(
        {
            "x": normal(1, TOKENS, HEADS, HEAD_DIM),
            "b": normal(1, TOKENS, GROUPS, STATE_DIM),
            "c": normal(1, TOKENS, GROUPS, STATE_DIM),
            "dt": 2 * normal(1, TOKENS, HEADS),
            "dt_bias": normal(HEADS),
            "a": -np.exp(normal(HEADS)),
            "d": normal(HEADS),
            "state": normal(1, HEADS, HEAD_DIM, STATE_DIM),
        }
    )
    norm({"y": normal(5, WIDTH), "gate": normal(5, WIDTH), "weight": normal(WIDTH)})


def scan(arrays: dict[str, Any]) -> None:
    x, b, c, dt, dt_bias, a, d, state = (torch.tensor(array) for array in arrays.values())
    out, last = mamba2_chunk_scan(
        x,
        dt,
        a,
        b,
        c,
        chunk_size=CHUNK,
        D=d,
        dt_bias=dt_bias,
        initial_states=state,
        dt_softplus=True,
        dt_limit=LIMITS,
        return_final_states=True,
    )
    for name in ("x", "b", "c", "dt", "state"):
        arrays[name] = arrays[name][0]
    out, last = out[0].numpy(), last[0].numpy()
    np.savez_compressed(GOLDEN / "ssm_scan.npz", out=out, last=last, limits=LIMITS, **arrays)


def norm(arrays: dict[str, Any]) -> None:
    y, gate, weight = (torch.tensor(array) for array in arrays.values())
    first = MambaRMSNormGated(WIDTH, WIDTH // PARTS, EPS)
    last = Qwen3NextRMSNormGated(WIDTH, EPS)
    for layer in (first, last):
        layer.weight.data = weight
    with torch.no_grad():
        np.savez_compressed(
            GOLDEN / "gated_norm.npz",
            gate_first=first(y, gate).numpy(),
            norm_first=last(y, gate).numpy(),
            parts=PARTS,
            eps=EPS,
            **arrays,
        )


if __name__ == "__main__":
    main()
