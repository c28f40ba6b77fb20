"""Writes random blocks of each type, and the numbers that the gguf package makes of them.

    python tests/engine/gguf/make_golden_blocks.py LIBGGML_BASE

One type is not in the package: its numbers are those of ggml's own library.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import ctypes
import sys
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants
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
    "NVFP4": (),
    "IQ1_S": (0,),
    "IQ1_M": (),
    "IQ2_XXS": (0,),
    "IQ2_XS": (0,),
    "IQ2_S": (0,),
    "IQ3_XXS": (0,),
    "IQ3_S": (0,),
    "TQ1_0": (52,),
    "TQ2_0": (64,),
}
ROWS = 3
GRIDS = ("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S")


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
        if name == "IQ1_M":  # whose factor lies in the highest halves of four words' bytes
            words = blocks[:, 48:].copy().view(np.uint16)
            factors = random.normal(0, 0.1, (len(blocks), 1)).astype(np.float16).view(np.uint16)
            parts = (factors >> np.arange(0, 16, 4, dtype=np.uint16) & 15) << 12
            blocks[:, 48:] = (words & 0xFFF | parts).view(np.uint8)
        if name == "MXFP4":
            blocks[:, 0] = random.integers(100, 150, len(blocks))
        arrays[f"{name}.raw"], arrays[f"{name}.numbers"] = raw, dequantize(raw, kind)
    arrays["Q1_0.raw"], arrays["Q1_0.numbers"] = q1_0(random)
    for name in GRIDS:
        kind = getattr(quants, name)
        kind.init_grid()
        arrays[f"{name}.grid"] = kind.grid.reshape(kind.grid_shape).astype(np.int8)
    sizes = [(kind.value, kind.name, *GGML_QUANT_SIZES[kind]) for kind in GGML_QUANT_SIZES]
    np.savez_compressed(GOLDEN, sizes=np.array(sizes, dtype=str), **arrays)


def q1_0(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    raw = random.integers(0, 256, (ROWS, 2 * 18), dtype=np.uint8)
    blocks = raw.reshape(-1, 18)
    blocks[:, :2] = random.normal(0, 0.1, (len(blocks), 1)).astype(np.float16).view(np.uint8)
    numbers = np.empty((ROWS, 256), np.float32)
    places = (ctypes.c_void_p(each.ctypes.data) for each in (raw, numbers))
    ctypes.CDLL(sys.argv[1]).dequantize_row_q1_0(*places, ctypes.c_int64(numbers.size))
    return raw, numbers


if __name__ == "__main__":
    main()
