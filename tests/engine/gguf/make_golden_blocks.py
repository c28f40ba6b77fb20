"""Writes random blocks of each type, and the numbers that the gguf package makes of them.

python tests/engine/gguf/make_golden_blocks.py
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

GOLDEN = Path(__file__).parent / "golden" / "blocks.npz"
# Where 16-bit factors stand in a block.
FACTORS = {
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q6_K": (208,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
    "MXFP4": (),
}
ROWS = 3


def main() -> None:
    random, arrays = np.random.default_rng(0), {}
    for name, places in FACTORS.items():
        kind = GGMLQuantizationType[name]
        values, size = GGML_QUANT_SIZES[kind]
        raw = random.integers(0, 256, (ROWS, 256 // values * size), dtype=np.uint8)
        blocks = raw.reshape(-1, size)
        for place in places:
            factors = random.normal(0, 0.1, (len(blocks), 1)).astype(np.float16)
            blocks[:, place : place + 2] = factors.view(np.uint8)
        if name == "MXFP4":
            blocks[:, 0] = random.integers(100, 150, len(blocks))
        arrays[f"{name}.raw"], arrays[f"{name}.numbers"] = raw, dequantize(raw, kind)
    sizes = [(kind.value, kind.name, *GGML_QUANT_SIZES[kind]) for kind in GGML_QUANT_SIZES]
    np.savez_compressed(GOLDEN, sizes=np.array(sizes, dtype=str), **arrays)


if __name__ == "__main__":
    main()
