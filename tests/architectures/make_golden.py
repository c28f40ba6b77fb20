"""Writes golden/*.npz, run by hand with torch 2.13.0, transformers 5.23.0 and mlx-lm 0.32.2.

Logits of the tiny checkpoints come from transformers (float32, eager attention); those of the
quantized ones from mlx_lm, run in float32 on the same words and scales.
"""

# pyright: reportMissingImports=false

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.architectures.tiny import (
    CONFIGS,
    QUANTIZED,
    Config,
    Floats,
    Tiny,
    golden_rows,
    prompts,
    quantize,
    tensors,
)

GOLDEN = Path(__file__).parent / "golden"


def by_transformers(config: Config) -> list[Floats]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {key: value for key, value in config.items() if value is not None}
    if "sliding_window" in config:
        fields["sliding_window"] = config["sliding_window"]
    made = AutoConfig.for_model(**fields)
    model = AutoModelForCausalLM.from_config(made, attn_implementation="eager").float().eval()
    state = {
        name: torch.from_numpy(value) for name, value in fused(config, tensors(config)).items()
    }
    left = model.load_state_dict(state, strict=False)
    assert not left.unexpected_keys, left
    assert set(left.missing_keys) <= {"lm_head.weight"}, left
    model.tie_weights()
    with torch.no_grad():
        return [model(torch.tensor([prompt])).logits[0].numpy() for prompt in prompts()]


def fused(config: Config, arrays: dict[str, Floats]) -> dict[str, Floats]:
    """Experts as transformers 5 holds them in memory: gate over up, all in one tensor."""
    out = {name: value for name, value in arrays.items() if ".experts." not in name}
    for layer in range(config["num_hidden_layers"]):
        mlp = f"model.layers.{layer}.mlp"
        if f"{mlp}.gate.weight" not in arrays:
            continue
        gate, up, down = (
            np.stack(
                [
                    arrays[f"{mlp}.experts.{expert}.{part}_proj.weight"]
                    for expert in range(config["num_experts"])
                ]
            )
            for part in ("gate", "up", "down")
        )
        out[f"{mlp}.experts.gate_up_proj"] = np.concatenate([gate, up], axis=1)
        out[f"{mlp}.experts.down_proj"] = down
    return out


def by_mlx_lm(config: Config) -> list[Floats]:
    import mlx.core as mx
    from mlx_lm.utils import load_model

    mx.set_default_device(mx.cpu)
    with tempfile.TemporaryDirectory() as directory:
        path = Tiny(config, quantize(config, tensors(config))).write(Path(directory))
        model, _ = load_model(path)
        return [np.array(model(mx.array([prompt])))[0] for prompt in prompts()]


def save(name: str, logits: list[Floats]) -> None:
    kept = np.stack([logits[prompt][position] for prompt, position in golden_rows()])
    assert kept.std() >= 1, f"{name}: logits have a standard deviation of only {kept.std():.2f}"
    np.savez_compressed(GOLDEN / f"{name}.npz", logits=kept.astype(np.float32))
    print(f"{name}: std {kept.std():.2f}, largest {np.abs(kept).max():.1f}")


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name, config in CONFIGS.items():
        save(name, by_transformers(config))
    for name, config in QUANTIZED.items():
        save(name, by_mlx_lm(config))


if __name__ == "__main__":
    main()
