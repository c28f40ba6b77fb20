"""Tests of what a model's files say of it, against what their publishers say."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from bessemer.http import gguf_models
from bessemer.http.about import about, in_words
from bessemer.http.hub import BUILT_IN


def test_a_gguf_model_as_its_publisher_describes_it() -> None:
    """SmolLM2-135M-Instruct: 134,515,008 parameters, of which the head is the embedding's."""
    path = gguf_models.packaged(gguf_models.DEFAULT)
    assert path is not None
    told = about(path)
    assert (told.format, told.family, told.parameters) == ("gguf", "llama", 134_515_008)
    assert told.quantization == "Q4_1" and told.size == path.stat().st_size
    assert told.sizes["block_count"] == 30 and told.sizes["embedding_length"] == 576
    assert told.sizes["attention.head_count_kv"] == 3


def test_what_mlx_has_packed_counts_as_what_it_was(tmp_path: Path) -> None:
    tensors = {
        "a.weight": np.zeros((8, 16), np.uint32),  # 8 rows of 128 values in 4 bits
        "a.scales": np.zeros((8, 2), np.float16),
        "a.biases": np.zeros((8, 2), np.float16),
        "b.weight": np.zeros((5, 7), np.float32),
        "b.bias": np.zeros(5, np.float32),
        "ids": np.zeros(3, np.uint32),  # numbers that are not packed
    }
    save_file(tensors, tmp_path / "model.safetensors")
    config = '{"model_type": "qwen3", "hidden_size": 7, "quantization": {"group_size": 64}}'
    (tmp_path / "config.json").write_text(config)
    told = about(tmp_path)
    assert (told.format, told.family, told.quantization) == ("safetensors", "qwen3", "4-bit")
    assert told.parameters == 8 * 128 + 35 + 5 + 3 and told.sizes == {"embedding_length": 7}
    assert told.size == (tmp_path / "model.safetensors").stat().st_size


def test_a_digest_is_of_the_files_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    tensors = {"a.weight": np.zeros(4, np.float32)}
    save_file(tensors, tmp_path / "model.safetensors")
    first = about(tmp_path)
    assert about(tmp_path) == first and len(first.digest) == 64
    save_file(tensors | {"b.weight": np.zeros(4, np.float32)}, tmp_path / "model.safetensors")
    second = about(tmp_path)
    assert second.digest != first.digest and second.parameters == 8
    assert second.fingerprint != first.fingerprint
    assert first.fingerprint.startswith(f"bessemer-{version('bessemer')}-")


def test_what_cannot_be_read_raises(tmp_path: Path) -> None:
    for written in (b"", b"\xff" * 9, b"\x02\0\0\0\0\0\0\0[]"):
        (tmp_path / "model.safetensors").write_bytes(written)
        with pytest.raises(ValueError):
            about(tmp_path)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [(134_515_008, "134.52M"), (1_720_574_976, "1.7B"), (9000, "9K"), (12, "12"), (0, "0")],
)
def test_numbers_in_words(parameters: int, words: str) -> None:
    assert in_words(parameters) == words


def test_the_built_in_model() -> None:
    told = about(BUILT_IN)
    assert told.parameters > 10**5 and told.family
