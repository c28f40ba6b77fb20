"""Writes golden/embedding_decoders.npz, run by hand with sentence-transformers 6.2.0.

With torch 2.13.0 and transformers 5.23.0.
"""

# pyright: reportMissingImports=false

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))


from tests.engine.tiny_decoders import DOCUMENTS, EMBEDDERS, JUDGE, RECIPE, RERANKERS
from tests.engine.tiny_embedders import GOLDEN, QUERY, TEXTS


def main() -> None:
    from sentence_transformers import CrossEncoder, SentenceTransformer

    exact: dict[str, Any] = {"attn_implementation": "eager"}
    arrays: dict[str, Any] = {}
    for name, decoder in EMBEDDERS.items():
        with tempfile.TemporaryDirectory() as directory:
            path = str(decoder.write(Path(directory)))
            model = SentenceTransformer(path, device="cpu", model_kwargs=exact)
            out = model.encode(list(TEXTS), prompt_name=decoder.prompt, batch_size=1)
        arrays[name] = out
        print(f"{name}: {out.shape}, {out.std(axis=0).mean():.3f}")
    for name, decoder in RERANKERS.items():
        with tempfile.TemporaryDirectory() as directory:
            path = decoder.write(Path(directory))
            if name == RECIPE:  # the same as a template, which later checkpoints have
                (path / "chat_template.jinja").write_text(JUDGE)
            ranker = CrossEncoder(str(path), device="cpu", model_kwargs=exact)
            out = ranker.predict([(QUERY, text) for text in DOCUMENTS], batch_size=1)
        arrays[name] = out
        print(f"{name}: {out.shape}, {out.std():.2f}, {out.round(2)}")
    np.savez_compressed(GOLDEN / "embedding_decoders.npz", **arrays)


if __name__ == "__main__":
    main()
