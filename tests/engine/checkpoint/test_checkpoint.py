"""Directories that are no sound checkpoint, each told apart in one sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bessemer.engine.checkpoint.checkpoint import open_checkpoint
from bessemer.engine.checkpoint.weight_files import INDEX, SINGLE, CheckpointError
from tests.architectures.parity import tiny
from tests.engine.gguf.make_golden import GOLDEN

NAME = "llama_llama3"
CONFIG = tiny(NAME).config


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tiny(NAME).write(tmp_path / "model")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return tiny(NAME).write_shards(tmp_path / "model", 3)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_headers(path: Path, sharded: Path) -> None:
    for directory in (path, sharded):
        out = open_checkpoint(directory)
        assert out.config == CONFIG
        assert out.tensors.keys() == tiny(NAME).tensors.keys()
        assert out.tensors["lm_head.weight"].shape == (80, 64)
        assert out.tensors["lm_head.weight"].dtype == "F32"


def test_a_gguf_file() -> None:
    path = GOLDEN / "llama.gguf"
    out = open_checkpoint(path)
    assert (out.path, out.config["model_type"]) == (path, "llama")
    header = out.tensors["lm_head.weight"]
    assert (header.file, header.shape, header.dtype) == (path, (48, 32), "F16")
    assert open_checkpoint(path, {"a": 1}).config == {"a": 1}  # which is not read again


def test_no_directory(tmp_path: Path) -> None:
    assert "is not a directory" in refusal(tmp_path / "absent")
    assert "is missing" in refusal(tmp_path / "model.gguf")


def test_missing_files(path: Path) -> None:
    (path / SINGLE).unlink()
    assert f"{SINGLE} is missing" in refusal(path)
    (path / "config.json").unlink()
    assert "config.json is missing" in refusal(path)


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b"[" * 100_000, b"", b"\x00"])
def test_a_config_that_is_no_json(text: bytes, path: Path) -> None:
    (path / "config.json").write_bytes(text)
    assert "config.json cannot be read" in refusal(path)


def test_a_config_that_is_no_object(path: Path) -> None:
    (path / "config.json").write_text("[1]")
    assert "does not hold a JSON object" in refusal(path)


@pytest.mark.parametrize("size", [0, 4, 8, 100, 5000, -1])
def test_a_truncated_file(size: int, path: Path) -> None:
    full = (path / SINGLE).read_bytes()
    (path / SINGLE).write_bytes(full[:size])
    assert f"{SINGLE} is damaged" in refusal(path)


@pytest.mark.parametrize("junk", [b"\xff" * 64, b"\x00" * 64, b"version one"])
def test_a_file_that_is_something_else(junk: bytes, path: Path) -> None:
    (path / SINGLE).write_bytes(junk)
    assert f"{SINGLE} is damaged" in refusal(path)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 269060552\n"


@pytest.mark.parametrize("name", [SINGLE, "config.json", INDEX])
def test_a_git_lfs_pointer(name: str, path: Path) -> None:
    if name == INDEX:
        (path / SINGLE).unlink()
    (path / name).write_text(POINTER)
    said = refusal(path)
    assert f"{path / name} is a git-lfs pointer" in said and "git lfs pull" in said


def test_a_shard_that_is_a_git_lfs_pointer(sharded: Path) -> None:
    victim = sorted(sharded.glob("*.safetensors"))[1]
    victim.write_text(POINTER)
    assert f"{victim} is a git-lfs pointer" in refusal(sharded)


@pytest.mark.parametrize("rename", [str, lambda name: name.replace("model-", "x-")])
def test_shards_without_an_index(rename: Callable[[str], str], sharded: Path) -> None:
    (sharded / INDEX).unlink()
    for file in sharded.glob("*.safetensors"):
        file.rename(sharded / rename(file.name))
    assert open_checkpoint(sharded).tensors.keys() == tiny(NAME).tensors.keys()


def test_one_tensor_in_two_files(sharded: Path) -> None:
    """An index says which one counts; without one it would be a guess."""
    name = "model.norm.weight"
    owner = open_checkpoint(sharded).tensors[name].file
    for file in sharded.glob("*.safetensors"):
        save_file({name: np.zeros(64, np.float32)} | load_file(file), file)
    assert open_checkpoint(sharded).tensors[name].file == owner
    (sharded / INDEX).unlink()
    assert f"both hold the tensor {name}" in refusal(sharded)


def test_files_beside_the_model_are_not_mixed_in(path: Path) -> None:
    for name in ("consolidated.safetensors", "adapter_model.safetensors", "adapters.safetensors"):
        save_file({"layers.0.wq.weight": np.zeros(64, np.float32)}, path / name)
    assert open_checkpoint(path).tensors.keys() == tiny(NAME).tensors.keys()


def test_a_header_that_points_past_the_end(path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    (path / SINGLE).write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert f"{SINGLE} is damaged" in refusal(path)


def test_a_missing_shard(sharded: Path) -> None:
    victim = sorted(sharded.glob("*.safetensors"))[1]
    victim.unlink()
    assert f"{victim.name} is missing" in refusal(sharded)


def test_a_tensor_that_the_index_promises(sharded: Path) -> None:
    index = json.loads((sharded / INDEX).read_text())
    shard = index["weight_map"]["model.norm.weight"]
    index["weight_map"]["model.norm.bias"] = shard
    (sharded / INDEX).write_text(json.dumps(index))
    assert f"{shard} lacks the tensor model.norm.bias" in refusal(sharded)


@pytest.mark.parametrize("listed", [None, [], {"a": 1}])
def test_an_index_without_a_map(listed: object, sharded: Path) -> None:
    (sharded / INDEX).write_text(json.dumps({"weight_map": listed}))
    assert "has no weight_map" in refusal(sharded)


def test_an_index_that_leaves_the_directory(sharded: Path) -> None:
    (sharded / INDEX).write_text(json.dumps({"weight_map": {"a": "../a.safetensors"}}))
    assert "which is not in the directory" in refusal(sharded)
