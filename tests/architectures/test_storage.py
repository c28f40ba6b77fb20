"""A family is one module and one row: from these it is loaded, run, quantized and read again."""

import json
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.architectures.registry import FAMILIES
from bessemer.architectures.storage import Stored
from bessemer.engine.checkpoint.quantize import QuantRecipe, quantize
from bessemer.engine.checkpoint.weights import Reading
from bessemer.engine.model import load

from . import toy
from .parity import tiny
from .steps import prefill
from .tiny import Floats, Tiny, prompts

LLAMA = "llama_llama3"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of the toy family, with the numbers of a tiny Llama."""
    monkeypatch.setitem(FAMILIES, "toy", "toy")
    monkeypatch.setitem(sys.modules, "bessemer.architectures.toy", toy)
    llama = tiny(LLAMA)
    arrays = {name.replace("model.", "transformer."): a for name, a in llama.tensors.items()}
    for name in [name for name in arrays if "gate_proj" in name]:
        both = [arrays.pop(name), arrays.pop(name.replace("gate_proj", "up_proj"))]
        arrays[name.replace("gate_proj", "in_proj")] = np.concatenate(both)
    return Tiny(llama.config | {"model_type": "toy"}, arrays).write(tmp_path / "toy")


def logits(path: Path) -> Floats:
    return prefill(load(path, Reading(exact=True)), prompts()[0])


def quantized(
    source: Path, into: Path, recipe: QuantRecipe
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The new config, and the new tensors."""
    quantize(source, into, recipe)
    tensors = mx.load(str(into / "model.safetensors"))
    assert isinstance(tensors, dict)
    return json.loads((into / "config.json").read_text()), tensors


def test_it_is_loaded_and_runs(source: Path, tmp_path: Path) -> None:
    assert (logits(source) == logits(tiny(LLAMA).write(tmp_path / "llama"))).all()


def test_it_is_quantized_as_its_module_says_and_read_again(source: Path, tmp_path: Path) -> None:
    eight, llama = QuantRecipe.of(32, 8), tiny(LLAMA).write(tmp_path / "llama")
    config, tensors = quantized(source, tmp_path / "into", eight)
    _, mlx_names = quantized(llama, tmp_path / "expected", eight)
    assert config["model_type"] == "llama"
    head = {name for name in mlx_names if name.startswith("lm_head")}
    assert tensors.keys() == mlx_names.keys() - head | {"lm_head.weight"}
    assert tensors["lm_head.weight"].dtype == mx.float32
    assert all(mx.array_equal(tensors[name], mlx_names[name]) for name in mlx_names.keys() - head)
    before, after = logits(source), logits(tmp_path / "into")
    assert 0 < np.median(np.abs(after - before)) <= 0.05 * before.std()


def test_small_numbers_have_8_bits_where_scales_are_floats(source: Path, tmp_path: Path) -> None:
    config, _ = quantized(source, tmp_path / "floats", QuantRecipe.of(16, 4, "nvfp4"))
    names = {f"model.layers.{layer}.self_attn.o_proj" for layer in range(2)}
    modules = {
        name: how for name, how in config["quantization"].items() if name.startswith("model")
    }
    assert modules == dict.fromkeys(names, Stored(64, 8).entry)
    assert np.isfinite(logits(tmp_path / "floats")).all()
