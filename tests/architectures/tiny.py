"""Tiny random checkpoints of every family, the same wherever they are built."""

import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Floats = NDArray[np.float32]
Config = dict[str, Any]
# Of a checkpoint: each tensor's name, with its dtype in safetensors' spelling and its shape.
Shapes = Mapping[str, tuple[str, tuple[int, ...]]]

LENGTHS = (75, 70, 65, 64, 33, 32, 7, 1)  # of the eight golden prompts
POSITIONS = (0, 5, 31, 32, 63, 64, 70)  # of the first prompt, and the last of each

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
BASE: Config = {
    "vocab_size": 80,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 256,
    "rms_norm_eps": 0.02,
    "rope_theta": 1000.0,
    "tie_word_embeddings": False,
}
VOCABULARY = 80


@dataclass(frozen=True)
class Case:
    """A tiny model, and the fields of its config that matter.

    `matters` are other values by field (`a.b` within a table); each moves the logits, and none of
    them changes a tensor's shape. `source` writes the golden logits: of checkpoints by Hugging
    Face's names transformers, of those by mlx_lm's names, quantized or not, mlx_lm. `auto` is the
    class of transformers; `instead` names functions that mlx_lm is made to take in place of others,
    where it is not what transformers computes.
    """

    config: Config
    matters: Mapping[str, Any] = field(default_factory=dict)
    source: str = "transformers"
    auto: str = "AutoModelForCausalLM"
    instead: Mapping[str, str] = field(default_factory=dict)


def prompts() -> list[list[int]]:
    random = np.random.RandomState(7)
    return [random.randint(0, VOCABULARY, length).tolist() for length in LENGTHS]


def golden_rows() -> Sequence[tuple[int, int]]:
    """(prompt, position) of each row of a golden file."""
    return [(0, position) for position in POSITIONS] + [
        (prompt, length - 1) for prompt, length in enumerate(LENGTHS)
    ]


def stream(name: str) -> np.random.RandomState:
    """Return a stream that numpy promises to keep, so the same for the generator and the tests."""
    return np.random.RandomState(zlib.crc32(name.encode()))


Draw = Callable[[np.random.RandomState, tuple[int, ...]], NDArray[np.float64]]


def _scaled(gain: float, axis: int = -1) -> Draw:
    return lambda random, shape: random.standard_normal(shape) * gain / np.sqrt(shape[axis])


def _around(centre: float, spread: float) -> Draw:
    return lambda random, shape: centre + spread * random.standard_normal(shape)


# By the first pattern that a name matches: scaled so that attention is peaked and logits have a
# standard deviation above 1.
DRAWS: tuple[tuple[str, Draw], ...] = (
    (r"A_log$", lambda random, shape: np.log(random.uniform(0.5, 8, shape))),
    (r"(\.D|norm\d?\.weight|layernorm\.weight|norm_[a-z]+\.weight)$", _around(1.0, 0.3)),
    (r"(layer_scalar|router\.scale|per_expert_scale)$", _around(1.0, 0.3)),
    (r"e_score_correction_bias$", _around(0.0, 0.2)),
    (r"sinks$", _around(0.0, 1.5)),
    (r"(bias|dt_bias)$", _around(0.0, 0.5)),
    (r"conv1d\.weight$|conv\.conv\.weight$", _around(0.0, 0.6)),
    (r"(q_proj|k_proj|qkv_proj|q_b_proj|kv_b_proj)\.weight$", _scaled(2.0)),
    (r"", _scaled(1.5)),
)
# Of these all norms are stored less 1.
LESS_ONE = ("gemma", "gemma2", "gemma3", "gemma3_text")


def tensor(name: str, shape: tuple[int, ...]) -> Floats:
    draw = next(draw for pattern, draw in DRAWS if re.search(pattern, name))
    return draw(stream(name), shape).astype(np.float32)


def tensors(shapes: Shapes, config: Config) -> dict[str, NDArray[Any]]:
    """A checkpoint's arrays; of quantized modules words, scales and biases are drawn at random."""
    out: dict[str, NDArray[Any]] = {}
    for name, (dtype, shape) in shapes.items():
        module, _, part = name.rpartition(".")
        how = stored(config, module) if f"{module}.scales" in shapes else None
        if how is None and dtype == "U8":
            out[name] = blocks_or_scales(name, shape)
        elif how is None:
            less = config["model_type"] in LESS_ONE and "norm" in name
            out[name] = tensor(name, shape) - np.float32(less)
        elif part == "weight":
            out |= quantized(module, shape, how)
        elif part == "bias":
            out[name] = rounded(tensor(name, shape))
    return out


def stored(config: Config, module: str) -> dict[str, Any]:
    """Mode, group and bits of a quantized module."""
    quantization = config["quantization"]
    exception = quantization.get(module)
    default = {key: quantization[key] for key in ("group_size", "bits")}
    default["mode"] = quantization.get("mode", "affine")
    return default | exception if isinstance(exception, dict) else default


def quantized(module: str, shape: tuple[int, ...], how: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Random codes, with scales that give the weight about the spread of a dense one."""
    random, bits = stream(f"{module}.words"), how["bits"]
    words = random.randint(0, 2**32, shape, dtype=np.uint32)
    columns = shape[-1] * 32 // bits
    groups = (*shape[:-1], columns // how["group_size"])
    spread, mode = 1.5 / np.sqrt(columns), how.get("mode", "affine")
    if mode == "affine":
        scales = spread * np.sqrt(12) / 2**bits * random.uniform(0.5, 1.5, groups)
        centre = -scales * (2**bits - 1) / 2
        parts = {"scales": scales, "biases": centre}
        rest = {part: rounded(values.astype(np.float32)) for part, values in parts.items()}
    else:
        if mode == "mxfp8":
            words &= np.uint32(0xBFBFBFBF)  # else some of the codes would be NaN
        rest = {"scales": _codes(mode, spread, random, groups)}
    arrays = {"weight": words, **rest}
    return {f"{module}.{part}": values for part, values in arrays.items()}


def _codes(
    mode: str, spread: float, random: np.random.RandomState, shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Scales of 8 bits: powers of 2, or, for nvfp4, with 3 bits of mantissa."""
    exponent = np.log2(spread / (0.6 if mode == "mxfp8" else 3.0))
    if mode == "nvfp4":
        return (8 * int(np.round(exponent + 7)) + random.randint(0, 8, shape)).astype(np.uint8)
    return (127 + int(np.round(exponent)) + random.randint(0, 2, shape)).astype(np.uint8)


def blocks_or_scales(name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Draw gpt-oss's experts: codes of 4 bits, two a byte, or a scale for each 32 of them."""
    if name.endswith("_blocks"):
        return stream(name).randint(0, 256, shape).astype(np.uint8)
    return _codes("mxfp4", 1.5 / np.sqrt(32 * shape[-1]), stream(name), shape)


def rounded(values: Floats) -> Floats:
    """Truncate to what bfloat16 holds exactly."""
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


@dataclass
class Tiny:
    """A checkpoint directory to write: its config and its tensors."""

    config: Config
    tensors: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.json").write_text(json.dumps(self.config))
        save_file(self.tensors, path / "model.safetensors")
        return path

    def write_shards(self, path: Path, count: int) -> Path:
        self.write(path)
        (path / "model.safetensors").unlink()
        files = {
            name: f"model-{i % count + 1:05}-of-{count:05}.safetensors"
            for i, name in enumerate(self.tensors)
        }
        for file in set(files.values()):
            save_file({n: self.tensors[n] for n in files if files[n] == file}, path / file)
        index = json.dumps({"metadata": {}, "weight_map": files})
        (path / "model.safetensors.index.json").write_text(index)
        return path
