"""Writes golden/embeddings.npz and golden/minilm.npz, run by hand with sentence-transformers 6.2.0.

With torch 2.13.0 and transformers 5.23.0; the argument is the folder of all-MiniLM-L6-v2.
"""

# pyright: reportMissingImports=false

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))


from tests.engine.minilm import SENTENCES
from tests.engine.tiny_embedders import EMBEDDERS, GOLDEN, QUERY, RERANKERS, TEXTS


def main() -> None:
    from sentence_transformers import CrossEncoder, SentenceTransformer

    arrays: dict[str, Any] = {}
    for name, source in EMBEDDERS.items():
        with tempfile.TemporaryDirectory() as directory:
            model = SentenceTransformer(str(source.write(Path(directory))), device="cpu")
            out = model.encode(list(TEXTS), prompt_name=source.prompt)
        arrays[name] = out
        print(f"{name}: {out.shape}, {out.std():.2f}")
    for name, source in RERANKERS.items():
        with tempfile.TemporaryDirectory() as directory:
            ranker = CrossEncoder(str(source.write(Path(directory))), device="cpu")
            out = ranker.predict([(QUERY, text) for text in TEXTS])
        arrays[name] = out
        print(f"{name}: {out.shape}, {out.std():.2f}")
    np.savez_compressed(GOLDEN / "embeddings.npz", **arrays)
    vectors = SentenceTransformer(sys.argv[1], device="cpu").encode(list(SENTENCES))
    np.savez_compressed(GOLDEN / "minilm.npz", vectors=vectors)


if __name__ == "__main__":
    main()
