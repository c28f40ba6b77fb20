"""Tiny random checkpoints of every family, the same wherever they are built."""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Floats = NDArray[np.float32]
Config = dict[str, Any]

LENGTHS = (75, 70, 65, 64, 33, 32, 7, 1)  # of the eight golden prompts
POSITIONS = (0, 5, 31, 32, 63, 64, 70)  # of the first prompt, beside the last of each

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
CONFIGS: dict[str, Config] = {
    "llama_gqa_llama3": BASE | {"model_type": "llama", "rope_scaling": LLAMA3},
    "llama_mqa_linear_biased_tied": BASE
    | {
        "model_type": "llama",
        "hidden_size": 48,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
        "rope_theta": None,
        "rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 500.0},
    },
    "mistral_window_wide_head": BASE
    | {"model_type": "mistral", "head_dim": 24, "sliding_window": 20},
    "mistral_mha_yarn_tied": BASE
    | {
        "model_type": "mistral",
        "num_key_value_heads": 4,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "rope_scaling": YARN | {"mscale": 1.5, "mscale_all_dim": 0.5},
    },
    "qwen2_window_from_layer_tied": BASE
    | {
        "model_type": "qwen2",
        "num_hidden_layers": 3,
        "use_sliding_window": True,
        "sliding_window": 17,
        "max_window_layers": 1,
        "tie_word_embeddings": True,
    },
    "qwen2_mha_yarn": BASE
    | {
        "model_type": "qwen2",
        "num_key_value_heads": 4,
        "rope_scaling": YARN | {"beta_fast": 16.0, "beta_slow": 2.0},
    },
    "qwen3_layer_types_tied": BASE
    | {
        "model_type": "qwen3",
        "num_hidden_layers": 3,
        "head_dim": 32,
        "use_sliding_window": True,
        "sliding_window": 33,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "tie_word_embeddings": True,
    },
    "qwen3_mqa_yarn_biased": BASE
    | {
        "model_type": "qwen3",
        "head_dim": 16,
        "num_key_value_heads": 1,
        "attention_bias": True,
        "rope_theta": None,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 2000.0,
            "factor": 8.0,
            "original_max_position_embeddings": 32,
            "attention_factor": 1.3,
            "truncate": False,
        },
    },
    "qwen3_moe_normalised": BASE
    | {
        "model_type": "qwen3_moe",
        "head_dim": 16,
        "num_experts": 5,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 40,
        "norm_topk_prob": True,
        "mlp_only_layers": [],
        "decoder_sparse_step": 1,
    },
    "qwen3_moe_one_expert_some_dense": BASE
    | {
        "model_type": "qwen3_moe",
        "num_hidden_layers": 4,
        "head_dim": 24,
        "num_key_value_heads": 1,
        "num_experts": 3,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 32,
        "norm_topk_prob": False,
        "mlp_only_layers": [3],
        "decoder_sparse_step": 2,
        "attention_bias": True,
        "tie_word_embeddings": True,
    },
}
QUANTIZED: dict[str, Config] = {
    "quantized_qwen3_moe": BASE
    | {
        "model_type": "qwen3_moe",
        "hidden_size": 128,
        "head_dim": 32,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "norm_topk_prob": True,
        "mlp_only_layers": [],
        "decoder_sparse_step": 1,
        "stacked_experts": True,
        "quantization": {"group_size": 64, "bits": 4},
    },
    "quantized_llama": BASE
    | {
        "model_type": "llama",
        "hidden_size": 128,
        "intermediate_size": 128,
        "quantization": {
            "group_size": 64,
            "bits": 4,
            "mode": "affine",
            "model.embed_tokens": {"group_size": 32, "bits": 8},
            "model.layers.0.self_attn.v_proj": {"group_size": 64, "bits": 6},
            "model.layers.0.mlp.down_proj": {"group_size": 128, "bits": 3},
            "model.layers.1.mlp.up_proj": {"group_size": 32, "bits": 5},
            "model.layers.1.mlp.gate_proj": {"group_size": 32, "bits": 2},
            "model.layers.1.self_attn.o_proj": False,
        },
    },
    "quantized_qwen3_tied": BASE
    | {
        "model_type": "qwen3",
        "hidden_size": 64,
        "intermediate_size": 128,
        "head_dim": 32,
        "tie_word_embeddings": True,
        "quantization": {"group_size": 32, "bits": 6},
    },
}


def prompts() -> list[list[int]]:
    random = np.random.RandomState(7)
    return [random.randint(0, BASE["vocab_size"], length).tolist() for length in LENGTHS]


def shapes(config: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor of a checkpoint before quantization, by the names of Hugging Face."""
    hidden, width, heads = (
        config[name] for name in ("hidden_size", "intermediate_size", "num_attention_heads")
    )
    dim = config.get("head_dim") or hidden // heads
    kv, family = config["num_key_value_heads"], config["model_type"]
    attention = config.get("attention_bias", False)
    biased = {
        "q": attention or family == "qwen2",
        "k": attention or family == "qwen2",
        "v": attention or family == "qwen2",
        "o": attention,
    }
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        block = f"model.layers.{layer}."
        sizes = {
            "q": (heads * dim, hidden),
            "k": (kv * dim, hidden),
            "v": (kv * dim, hidden),
            "o": (hidden, heads * dim),
        }
        for part, shape in sizes.items():
            yield f"{block}self_attn.{part}_proj.weight", shape
            if biased[part]:
                yield f"{block}self_attn.{part}_proj.bias", shape[:1]
        if family in ("qwen3", "qwen3_moe"):
            yield f"{block}self_attn.q_norm.weight", (dim,)
            yield f"{block}self_attn.k_norm.weight", (dim,)
        if has_experts(config, layer):
            yield from experts(config, f"{block}mlp.")
        else:
            for part, shape in feed_forward(hidden, width):
                yield f"{block}mlp.{part}_proj.weight", shape
                if config.get("mlp_bias"):
                    yield f"{block}mlp.{part}_proj.bias", shape[:1]
        yield f"{block}input_layernorm.weight", (hidden,)
        yield f"{block}post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], hidden)


def feed_forward(hidden: int, width: int) -> list[tuple[str, tuple[int, ...]]]:
    return [("gate", (width, hidden)), ("up", (width, hidden)), ("down", (hidden, width))]


def has_experts(config: Config, layer: int) -> bool:
    if "num_experts" not in config or layer in config["mlp_only_layers"]:
        return False
    return (layer + 1) % int(config["decoder_sparse_step"]) == 0


def experts(config: Config, name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Each on its own, as Hugging Face writes them, or `stacked_experts`, as mlx_lm does."""
    hidden, width, count = (
        config[each] for each in ("hidden_size", "moe_intermediate_size", "num_experts")
    )
    yield f"{name}gate.weight", (count, hidden)
    for part, shape in feed_forward(hidden, width):
        if config.get("stacked_experts"):
            yield f"{name}switch_mlp.{part}_proj.weight", (count, *shape)
        else:
            for expert in range(count):
                yield f"{name}experts.{expert}.{part}_proj.weight", shape


def stream(name: str) -> np.random.RandomState:
    """Frozen by numpy's own promise, and so the same for the generator and the tests."""
    return np.random.RandomState(zlib.crc32(name.encode()))


def tensor(name: str, shape: tuple[int, ...]) -> Floats:
    """Scaled so that attention is peaked and logits have a standard deviation above 1."""
    values = stream(name).standard_normal(shape)
    if name.endswith("norm.weight"):
        values = 1 + 0.3 * values
    elif name.endswith(".bias"):
        values = 0.5 * values
    else:
        gain = 2.0 if name.endswith(("q_proj.weight", "k_proj.weight")) else 1.5
        values = values * gain / np.sqrt(shape[-1])
    return values.astype(np.float32)


def tensors(config: Config) -> dict[str, Floats]:
    return {name: tensor(name, shape) for name, shape in shapes(config)}


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


def rounded(values: Floats) -> Floats:
    """To what bfloat16 holds exactly, by truncation."""
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def quantize(config: Config, dense: dict[str, Floats]) -> dict[str, NDArray[Any]]:
    """Random words and scales in place of matrices: any bits are valid MLX affine ones."""
    chosen = config["quantization"]
    default = {key: chosen[key] for key in ("group_size", "bits")}
    out: dict[str, NDArray[Any]] = {}
    for name, values in dense.items():
        module = name.removesuffix(".weight")
        how = chosen.get(module, default)
        if values.ndim == 1 or how is False:
            out[name] = rounded(values)
            continue
        (*rows, columns), random = values.shape, stream(module + ".words")
        words = random.randint(0, 2**32, (*rows, columns * how["bits"] // 32), dtype=np.uint32)
        spread = values.std() * np.sqrt(12) / 2 ** how["bits"]
        scales = spread * random.uniform(0.5, 1.5, (*rows, columns // how["group_size"]))
        out[name] = words
        out[f"{module}.scales"] = rounded(scales.astype(np.float32))
        centre = -scales * (2 ** how["bits"] - 1) / 2
        out[f"{module}.biases"] = rounded(centre.astype(np.float32))
    return out


def golden_rows() -> Sequence[tuple[int, int]]:
    """(prompt, position) of each row of a golden file."""
    return [(0, position) for position in POSITIONS] + [
        (prompt, length - 1) for prompt, length in enumerate(LENGTHS)
    ]
