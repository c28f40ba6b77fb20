"""Random weights: our engine runs them, they follow from the seed, and GGUF holds the same."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bessemer.bench.compare.contest import Unavailable
from bessemer.bench.contestants.ours import EngineRun
from bessemer.bench.models import gguf_file
from bessemer.bench.models.shapes import ModelShape, shape
from bessemer.bench.models.synthetic import Storage, as_float32, checkpoint, stored
from bessemer.engine.text.loading import load_tokenizer

ORDER = {"pool_tokens": 1024, "streams": 2, "threads": 1, "precision": "fast", "chunk": 64}


def loaded(path: Path) -> EngineRun:
    return EngineRun({"path": str(path), **ORDER})


@pytest.mark.parametrize(
    "storage", [Storage(), Storage(8, 32, "float16"), Storage(0, 64, "float32")], ids=str
)
def test_our_engine_generates_with_it(storage: Storage, tmp_path: Path) -> None:
    run = loaded(checkpoint(shape("tiny"), storage, 1, tmp_path))
    for benchmark in ("decode", "prefill", "batch"):
        order = {"do": benchmark, "tokens": 8, "context": 40, "streams": 2, "seed": 3}
        answer = run.measure(order)
        assert answer["tokens"] >= 8 and answer["seconds"] > 0, benchmark
        assert not run.engine.busy


def test_it_follows_from_the_seed(tmp_path: Path) -> None:
    same = [checkpoint(shape("tiny"), Storage(), 1, tmp_path / each) for each in "ab"]
    files = [(path / "model.safetensors").read_bytes() for path in same]
    other = checkpoint(shape("tiny"), Storage(), 2, tmp_path)
    assert files[0] == files[1] != (other / "model.safetensors").read_bytes()
    assert not list((tmp_path / "models").glob(".making-*"))


def test_it_is_written_once(tmp_path: Path) -> None:
    path = checkpoint(shape("tiny"), Storage(), 1, tmp_path)
    before = (path / "model.safetensors").stat().st_mtime_ns
    assert checkpoint(shape("tiny"), Storage(), 1, tmp_path) == path
    assert (path / "model.safetensors").stat().st_mtime_ns == before


def test_a_matrix_keeps_the_size_of_a_vector(tmp_path: Path) -> None:
    path = checkpoint(shape("tiny"), Storage(), 1, tmp_path)
    weights = mx.load(str(path / "model.safetensors"))
    assert isinstance(weights, dict)
    name = "model.layers.0.mlp.down_proj"
    parts = [weights[f"{name}.{part}"] for part in ("weight", "scales", "biases")]
    matrix = mx.dequantize(*parts, group_size=64, bits=4).astype(mx.float32)
    assert float(mx.var(matrix)) == pytest.approx(1 / 256, rel=0.1)
    assert abs(float(mx.mean(matrix))) < 0.002


def test_the_words_are_as_many_as_the_shape_says(tmp_path: Path) -> None:
    path = checkpoint(shape("clients-5m"), Storage(0, 64, "float32"), 1, tmp_path)
    tokenizer = load_tokenizer(path)
    assert tokenizer.encoding.get_vocab_size() == 8192 and tokenizer.decode([8000]) == "word8000"
    assert (
        tokenizer.decode(tokenizer.encode("How do I serve a model?")) == "How do I serve a model?"
    )


@pytest.mark.parametrize(
    ("values", "excerpt"),
    [((7, 64, "bfloat16"), "--bits is 7"), ((4, 48, "bfloat16"), "--group is 48")],
)
def test_what_cannot_be_stored_is_refused(values: tuple[Any, ...], excerpt: str) -> None:
    with pytest.raises(Unavailable, match=excerpt):
        Storage(*values)


def test_bfloat16_rounds_to_even() -> None:
    values = np.array([1.0, 1.00390625, 1.01171875, -3.14159], np.float32)
    ours = as_float32(stored(values, "bfloat16"), "bfloat16")
    theirs = mx.array(values).astype(mx.bfloat16).astype(mx.float32)
    assert ours.tolist() == theirs.tolist()


SMALL_MOE = {"vocab_size": 2560, "hidden_size": 64, "num_hidden_layers": 2, "head_dim": 32} | {
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 128,
    "moe_intermediate_size": 64,
    "num_experts": 4,
    "num_experts_per_tok": 2,
}


@pytest.mark.parametrize(
    "storage", [Storage(), Storage(8, 64, "float16"), Storage(0, 64, "bfloat16")], ids=str
)
@pytest.mark.parametrize("family", ["tiny", "qwen3-30b-a3b"])
def test_gguf_holds_the_same_weights(family: str, storage: Storage, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="the gguf package is in the extra `bench`")
    small = SMALL_MOE if family != "tiny" else {}
    model = ModelShape("small", {**shape(family).config, **small}, 2)
    path = checkpoint(model, storage, 1, tmp_path)
    reader = gguf.GGUFReader(gguf_file.gguf_file(model, storage, path))
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert len(reader.fields["tokenizer.ggml.tokens"].data) == 2560
    last = "ffn_down_exps" if small else "ffn_down"
    for name, theirs in (
        ("token_embd", "model.embed_tokens"),
        (f"blk.1.{last}", f"model.layers.1.mlp.{'switch_mlp.' if small else ''}down_proj"),
    ):
        tensor = tensors[f"{name}.weight"]
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.allclose(values, dense(path, theirs, storage), rtol=1e-3, atol=1e-6), name


def dense(path: Path, name: str, storage: Storage) -> np.ndarray[Any, Any]:
    weights = mx.load(str(path / "model.safetensors"))
    assert isinstance(weights, dict)
    weight = weights[f"{name}.weight"]
    if storage.bits:
        scales, biases = (weights[f"{name}.{part}"] for part in ("scales", "biases"))
        plain = (each.astype(mx.float32) for each in (scales, biases))
        weight = mx.dequantize(weight, *plain, group_size=storage.group, bits=storage.bits)
    return np.array(weight.astype(mx.float32))


def test_gguf_trades_the_rows_of_a_llamas_queries(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="the gguf package is in the extra `bench`")
    storage = Storage(0, 64, "float32")
    path = checkpoint(shape("tiny"), storage, 1, tmp_path)
    file = gguf_file.gguf_file(shape("tiny"), storage, path)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    rows = tensors["blk.0.attn_q.weight"].data.reshape(4, 16, 2, 128)
    ours = dense(path, "model.layers.0.self_attn.q_proj", storage).reshape(4, 2, 16, 128)
    assert np.array_equal(rows[:, :, 0], ours[:, 0]) and np.array_equal(rows[:, :, 1], ours[:, 1])


def test_a_q6_k_head_and_what_gguf_lacks(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="the gguf package is in the extra `bench`")
    wide = ModelShape("wide", {**shape("tiny").config, "hidden_size": 256, "head_dim": 64}, 2)
    path = checkpoint(wide, Storage(), 1, tmp_path)
    reader = gguf.GGUFReader(gguf_file.gguf_file(wide, Storage(), path, "q6_k"))
    (head,) = (tensor for tensor in reader.tensors if tensor.name == "token_embd.weight")
    values = gguf.quants.dequantize(head.data, head.tensor_type)
    assert head.tensor_type.name == "Q6_K" and values.std() == pytest.approx(1 / 16, rel=0.2)
    with pytest.raises(Unavailable, match="no format with the same content as MLX's 3 bits"):
        gguf_file.format_name(Storage(3, 64))


def test_llama3_frequencies_are_the_engines(tmp_path: Path) -> None:
    factors = list(gguf_file.llama3_factors(shape("llama-3.2-1b").config))
    assert len(factors) == 32 and factors[0] == 1.0 and factors[-1] == 32.0
    assert all(a <= b for a, b in pairwise(factors))
    assert list(gguf_file.llama3_factors(shape("qwen3-4b").config)) == []


def test_the_config_says_what_was_written(tmp_path: Path) -> None:
    path = checkpoint(shape("clients-5m").scaled(1), Storage(0, 64, "bfloat16"), 1, tmp_path)
    config = json.loads((path / "config.json").read_text())
    assert "1of2" in path.name and config["num_hidden_layers"] == 1
    assert "quantization" not in config
