"""Directories that are no sound checkpoint, each told apart in one sentence."""

import json
from pathlib import Path

import pytest

from bessemer.engine.checkpoint.checkpoint import INDEX, SINGLE, CheckpointError, open_checkpoint
from tests.architectures.parity import tiny

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


def test_no_directory(tmp_path: Path) -> None:
    assert "is not a directory" in refusal(tmp_path / "absent")


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


@pytest.mark.parametrize("junk", [b"\xff" * 64, b"\x00" * 64, b"version https://git-lfs"])
def test_a_file_that_is_something_else(junk: bytes, path: Path) -> None:
    (path / SINGLE).write_bytes(junk)
    assert f"{SINGLE} is damaged" in refusal(path)


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
