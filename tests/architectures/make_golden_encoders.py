"""Writes golden/encoder_*.npz, run by hand with torch 2.13.0 and transformers 5.23.0.

Each case is saved by its class, filled with the tensors that its names give, loaded again, and run
on every sequence by itself in float32 with eager attention.
"""

# pyright: reportMissingImports=false

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.architectures.tiny import Config, Floats, Tiny
from tests.architectures.tiny_encoders import (
    CASES,
    GOLDEN,
    TYPED,
    sampled,
    sequences,
    tensor,
    types,
)


def run(kind: str, config: Config) -> tuple[dict[str, Any], Floats, Floats | None]:
    import torch
    import transformers
    from safetensors import safe_open

    cls = getattr(transformers, kind)
    model_config = transformers.AutoConfig.for_model(**config)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        cls(model_config).save_pretrained(path)
        saved = json.loads((path / "config.json").read_text())
        with safe_open(path / "model.safetensors", framework="numpy") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        Tiny(saved, {n: tensor(n, tuple(s)) for n, s in shapes.items()}).write(path)
        model, left = cls.from_pretrained(
            path, attn_implementation="eager", output_loading_info=True, dtype=torch.float32
        )
    assert not any(left.values()), left
    hidden, scores = [], []
    with torch.no_grad():
        for sequence in sequences(config["model_type"]):
            inputs = {"input_ids": torch.tensor([sequence])}
            if config["model_type"] in TYPED:
                inputs["token_type_ids"] = torch.tensor([types(config["model_type"], sequence)])
            out = model.eval()(**inputs, output_hidden_states=True)
            base = getattr(model, model.base_model_prefix, model)
            last = base(**inputs).last_hidden_state
            hidden.append(sampled(last[0].numpy()))
            if kind.endswith("ForSequenceClassification"):
                scores.append(out.logits[0].numpy())
    about = {"config": saved, "shapes": shapes}
    return about, np.stack(hidden), np.stack(scores) if scores else None


def main() -> None:
    for name, (kind, config) in CASES.items():
        about, hidden, scores = run(kind, config)
        arrays = {"about": np.array(json.dumps(about)), "hidden": hidden.astype(np.float32)}
        assert hidden[:, :3].std() >= 0.8, f"{name}: a standard deviation of {hidden.std():.2f}"
        if scores is not None:
            assert scores.std() >= 0.5, f"{name}: scores differ by only {scores.std():.2f}"
            arrays["scores"] = scores
        np.savez_compressed(GOLDEN / f"encoder_{name}.npz", **arrays)
        spread = "" if scores is None else f", scores {scores.std():.2f}"
        print(f"{name}: hidden {hidden[:, :3].std():.2f}{spread}")


if __name__ == "__main__":
    main()
