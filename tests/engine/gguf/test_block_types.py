"""The types that GGUF files have are those of the gguf package."""

from pathlib import Path

import numpy as np

from bessemer.engine.gguf.block_types import TYPES

GOLDEN = np.load(Path(__file__).parent / "golden" / "blocks.npz")


def test_sizes_of_all_types() -> None:
    known = {(str(n), t.name, str(t.values), str(t.bytes)) for n, t in TYPES.items()}
    assert known == {tuple(map(str, each)) for each in GOLDEN["sizes"]}
