"""Writes golden/formats.npz with torch's 8-bit floats and transformers' decoding of gpt-oss."""

# pyright: reportMissingImports=false

from pathlib import Path

import numpy as np
import torch
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

ROWS, COLUMNS, BLOCK = 70, 90, (32, 64)  # the last blocks of either side are cut
EXPERTS, WIDTH, GROUPS = 2, 3, 4


def blocks_of_floats(state: np.random.RandomState) -> dict[str, np.ndarray]:
    codes = state.randint(0, 256, (ROWS, COLUMNS)).astype(np.uint8)
    codes.reshape(-1)[:256] = np.arange(256)
    scales = np.exp(state.standard_normal((3, 2))).astype(np.float32)
    spread = torch.tensor(scales).repeat_interleave(BLOCK[0], 0).repeat_interleave(BLOCK[1], 1)
    values = torch.tensor(codes).view(torch.float8_e4m3fn).to(torch.float32)
    out = values * spread[:ROWS, :COLUMNS]
    return {
        "codes": codes,
        "scales": scales,
        "float32": out.numpy(),
        "bfloat16": out.to(torch.bfloat16).to(torch.float32).numpy(),
    }


def experts(state: np.random.RandomState) -> dict[str, np.ndarray]:
    blocks = state.randint(0, 256, (EXPERTS, WIDTH, GROUPS, 16)).astype(np.uint8)
    scales = state.randint(110, 140, (EXPERTS, WIDTH, GROUPS)).astype(np.uint8)
    out = convert_moe_packed_tensors(
        torch.tensor(blocks), torch.tensor(scales), dtype=torch.float32
    )
    rows = out.transpose(1, 2).reshape(EXPERTS * WIDTH, GROUPS * 32)
    return {"expert_blocks": blocks, "expert_scales": scales, "experts": rows.numpy()}


def main() -> None:
    state = np.random.RandomState(5)
    path = Path(__file__).parent / "golden" / "formats.npz"
    arrays = blocks_of_floats(state) | experts(state)
    np.savez_compressed(path, allow_pickle=False, **arrays)


if __name__ == "__main__":
    main()
