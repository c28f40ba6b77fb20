"""The files of the directory that a GGUF file stands for."""

from pathlib import Path
from typing import Any

import pytest

from bessemer.engine.checkpoint.checkpoint import read_json
from bessemer.engine.checkpoint.json_files import read_object
from bessemer.engine.checkpoint.weight_files import CheckpointError
from bessemer.engine.gguf.files import gguf_pooling

from .writer import Raw, Uint32, write

SAID: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": Uint32(1),
    "llama.embedding_length": Uint32(32),
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": ["a", "b"],
    "tokenizer.ggml.eos_token_id": Uint32(1),
}
TABLE = {"token_embd.weight": Raw((32, 2), 0, bytes(256))}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "m.gguf", SAID, TABLE)


def test_those_that_it_has(path: Path) -> None:
    config = read_json(path / "config.json")
    assert (config["model_type"], config["vocab_size"], config["hidden_size"]) == ("llama", 2, 32)
    assert read_json(path / "tokenizer_config.json")["eos_token"] == "b"
    assert read_json(path / "generation_config.json") == {"eos_token_id": [1]}
    assert read_object(path / "special_tokens_map.json", ValueError) is None


def test_how_tokens_are_drawn(path: Path) -> None:
    write(path, SAID | {"general.sampling.temp": 0.5, "general.sampling.top_k": 20}, TABLE)
    assert read_json(path / "generation_config.json") == {
        "do_sample": True,
        "temperature": 0.5,
        "top_k": 20,
        "eos_token_id": [1],
    }


def test_tokens_that_are_never_drawn(path: Path) -> None:
    """Gemma 4's files name those of pictures."""
    write(path, SAID | {"tokenizer.ggml.suppress_tokens": [0]}, TABLE)
    assert read_json(path / "generation_config.json")["suppress_tokens"] == [0]
    write(path, SAID | {"tokenizer.ggml.suppress_tokens": [0.5]}, TABLE)
    with pytest.raises(CheckpointError, match=r"suppress_tokens is \[0.5\], expected a list of w"):
        read_object(path / "generation_config.json", CheckpointError)


@pytest.mark.parametrize(
    ("said", "way"), [(None, None), (0, None), (1, "mean"), (2, "cls"), (3, "lasttoken")]
)
def test_how_vectors_are_made(path: Path, said: int | None, way: str | None) -> None:
    """By the numbers of llama.cpp's llama_pooling_type."""
    write(path, SAID | ({} if said is None else {"llama.pooling_type": Uint32(said)}), TABLE)
    assert gguf_pooling(path) == way
    assert read_json(path / "config.json").get("pooling_mode", None) == way


def test_a_way_of_pooling_that_is_not_known(path: Path) -> None:
    write(path, SAID | {"llama.pooling_type": Uint32(4)}, TABLE)
    with pytest.raises(CheckpointError, match="pools in a way that is not known here, 4"):
        gguf_pooling(path)


def test_a_flaw_is_an_error_of_the_reader_s_own_kind(path: Path) -> None:
    class Flaw(ValueError): ...

    write(path, SAID | {"general.architecture": "new"}, TABLE)
    with pytest.raises(Flaw, match="has the architecture 'new', and GGUF files of"):
        read_object(path / "config.json", Flaw)
    path.unlink()
    with pytest.raises(Flaw, match="is missing"):
        read_object(path / "config.json", Flaw)
