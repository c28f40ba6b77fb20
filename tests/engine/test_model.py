"""Loading a whole model: shards, storage, refusals, and how much memory it takes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.architectures.config import ConfigError
from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.model import load
from tests.architectures.parity import tiny
from tests.architectures.steps import prefill
from tests.architectures.tiny import Tiny, prompts, rounded

from .tiny_decoders import EMBEDDERS

NAME = "qwen3_layer_types_tied"
PROMPT = prompts()[1][:40]
PLAIN = ("llama_mqa_linear_biased_tied", "mistral_window_wide_head", "qwen3_moe_normalised")


def test_weight_bytes_are_the_tensors(tmp_path: Path) -> None:
    out = tiny(NAME)
    model = load(out.write(tmp_path))
    assert model.weight_bytes == sum(array.nbytes for array in out.tensors.values())
    assert model.config.model_type == "qwen3"
    assert model.decoder.dtype == mx.float32


@pytest.mark.parametrize("count", [1, 2, 7])
def test_shards_equal_one_file(count: int, tmp_path: Path) -> None:
    complete = load(tiny(NAME).write(tmp_path / "whole"))
    parts = load(tiny(NAME).write_shards(tmp_path / "parts", count))
    assert (prefill(complete, PROMPT) == prefill(parts, PROMPT)).all()
    assert parts.weight_bytes == complete.weight_bytes


def even(name: str) -> Tiny:
    """Return tensors of values that bfloat16 holds exactly."""
    out = tiny(name)
    arrays = {
        key: rounded(value) if value.dtype == np.float32 else value
        for key, value in out.tensors.items()
    }
    return Tiny(out.config, arrays)


def narrow(path: Path, dtype: mx.Dtype) -> None:
    """Rewrites a checkpoint's floating tensors in 16 bits."""
    file = str(path / "model.safetensors")
    out = mx.load(file)
    assert isinstance(out, dict)
    arrays = {n: a.astype(dtype) if a.dtype == mx.float32 else a for n, a in out.items()}
    mx.eval(list(arrays.values()))
    mx.save_safetensors(file, arrays)


@pytest.mark.parametrize("name", PLAIN)
def test_bfloat16_weights_compute_as_their_float32_values(name: str, tmp_path: Path) -> None:
    wide, half = even(name).write(tmp_path / "wide"), even(name).write(tmp_path / "half")
    narrow(half, mx.bfloat16)
    loaded = load(half)
    assert loaded.weight_bytes * 2 == load(wide).weight_bytes
    assert (prefill(loaded, PROMPT) == prefill(load(wide), PROMPT)).all()


@pytest.mark.parametrize("name", ["llama_affine", "llama_mxfp4"])
def test_16_bit_scales_compute_as_their_float32_values(name: str, tmp_path: Path) -> None:
    wide, half = even(name).write(tmp_path / "wide"), even(name).write(tmp_path / "half")
    narrow(half, mx.bfloat16)
    assert (prefill(load(half), PROMPT) == prefill(load(wide), PROMPT)).all()


def test_float16_weights_are_close(tmp_path: Path) -> None:
    wide, half = tiny(NAME).write(tmp_path / "wide"), tiny(NAME).write(tmp_path / "half")
    narrow(half, mx.float16)
    assert np.abs(prefill(load(half), PROMPT) - prefill(load(wide), PROMPT)).max() < 0.05


def refusal(out: Tiny, path: Path) -> str:
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        load(out.write(path))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "unheard"}, "model_type is 'unheard', which is not supported"),
        ({"num_hidden_layers": 2, "layer_types": None}, "has the tensor model.layers.2."),
        ({"num_hidden_layers": 4, "layer_types": None}, "lacks the tensor model.layers.3."),
        ({"vocab_size": 81}, "model.embed_tokens.weight has shape (80, 64), where config.json"),
        ({"num_key_value_heads": 4}, "k_proj.weight has shape"),
        ({"tie_word_embeddings": False}, "lacks the tensor lm_head.weight"),
        (
            {
                "model_type": "llama",
                "layer_types": None,
                "use_sliding_window": False,
                "sliding_window": None,
            },
            "has the tensor model.layers.0.self_attn.k_norm.weight",
        ),
        ({"attention_bias": True}, "lacks the tensor model.layers.0.self_attn.q_proj.bias"),
    ],
)
def test_a_config_of_another_model(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert message in refusal(tiny(NAME, change), tmp_path)


def test_a_missing_tensor(tmp_path: Path) -> None:
    out = tiny(NAME)
    del out.tensors["model.layers.1.mlp.down_proj.weight"]
    message = refusal(out, tmp_path)
    assert f"{tmp_path} lacks the tensor model.layers.1.mlp.down_proj.weight" in message


def test_what_embeds_alone_writes_no_texts(tmp_path: Path) -> None:
    path = EMBEDDERS["both_ways_with_a_head"].write(tmp_path)
    with pytest.raises(ConfigError, match="it embeds texts, and writes none"):
        load(path)


# A model whose files are some 300 MB, most of it in its layers, as real ones are.
LARGE: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 8000,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
BFLOAT16 = LARGE | {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 9}
FOUR_BITS = LARGE | {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 8,
    "quantization": {"group_size": 64, "bits": 4},
}
MEASURE = """
import re, sys
from pathlib import Path
import mlx.core as mx, numpy as np, safetensors
from bessemer.engine.model import load
from bessemer.architectures.step import StepRows
from bessemer.kernels.attention.pages import PAGE, Format, Layout, zeros

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

mx.eval(mx.ones((64, 64)) @ mx.ones((64, 64)))
before = peak()
model = load(Path(sys.argv[1]))
loaded = peak()
config = model.config
sizes = [(kept.kv_heads, kept.head_dim, kept.value_dim) for kept in config.caches]
cache = [zeros(4, *size, Format.FLOAT32) for size in sizes]
one, zero = mx.array([1], mx.int32), mx.array([0], mx.int32)
layout = Layout(zero, one * PAGE, zero, one[None], 1, ())
mx.eval(layout.slot_mapping, layout.tables)
logits, cache = model.decoder(one, StepRows((layout,), zero), cache, mx.array([0]))
mx.eval(logits)
print(before, loaded, peak(), model.weight_bytes)
"""


def llama(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The names and shapes of a Llama's tensors."""
    hidden, width = config["hidden_size"], config["intermediate_size"]
    keys = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    for name in ("model.embed_tokens", "lm_head"):
        yield f"{name}.weight", (config["vocab_size"], hidden)
    yield "model.norm.weight", (hidden,)
    for layer in range(config["num_hidden_layers"]):
        block = f"model.layers.{layer}"
        for part, rows, columns in (
            ("self_attn.q_proj", hidden, hidden),
            ("self_attn.k_proj", keys, hidden),
            ("self_attn.v_proj", keys, hidden),
            ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", width, hidden),
            ("mlp.up_proj", width, hidden),
            ("mlp.down_proj", hidden, width),
        ):
            yield f"{block}.{part}.weight", (rows, columns)
        for part in ("input_layernorm", "post_attention_layernorm"):
            yield f"{block}.{part}.weight", (hidden,)


def large(path: Path, config: dict[str, Any]) -> int:
    """Writes constants in a 16-bit or 4-bit layout; gives the size of the file."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    group = config.get("quantization", {}).get("group_size")
    arrays = {}
    for name, shape in llama(config):
        if group is None or len(shape) == 1:
            arrays[name] = mx.full(shape, 0.01, mx.bfloat16)
            continue
        module, (rows, columns) = name.removesuffix(".weight"), shape
        arrays[name] = mx.full((rows, columns // 8), 0x76543210, mx.uint32)
        arrays[f"{module}.scales"] = mx.full((rows, columns // group), 0.001, mx.bfloat16)
        arrays[f"{module}.biases"] = mx.full((rows, columns // group), -0.008, mx.bfloat16)
    mx.save_safetensors(str(path / "model.safetensors"), arrays)
    return (path / "model.safetensors").stat().st_size


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("config", [BFLOAT16, FOUR_BITS], ids=["bfloat16", "4 bits"])
def test_peak_memory(config: dict[str, Any], tmp_path: Path) -> None:
    """Loading takes at most 1.1 times the files (1.04 measured); a step of a row 24 MB more."""
    size = large(tmp_path / "model", config)
    assert 270e6 < size < 330e6
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "model")],
        capture_output=True,
        text=True,
        check=True,
    )
    before, loaded, stepped, held = map(int, ran.stdout.split())
    assert abs(held - size) < 1e5
    assert loaded - before <= 1.1 * size
    assert stepped - before <= 1.1 * size + 24e6
