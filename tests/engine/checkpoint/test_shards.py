"""The files of a new checkpoint: how tensors are dealt out, and what the index says of them."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file

from bessemer.engine.checkpoint.shards import SHARD, Shards, new_directory
from bessemer.engine.checkpoint.weight_files import INDEX, SINGLE, CheckpointError


def test_a_shard_holds_what_fits(tmp_path: Path) -> None:
    shards = Shards(tmp_path, limit=100)
    for i, count in enumerate((10, 15, 1, 40, 5, 5)):
        shards.add(f"x{i}", mx.zeros((count,), mx.float32))
    shards.finish()
    places = json.loads((tmp_path / INDEX).read_text())["weight_map"]
    assert [places[f"x{i}"][6:11] for i in range(6)] == [f"0000{n}" for n in (1, 1, 2, 3, 4, 4)]
    assert shards.bytes == 4 * 76


def test_several_files_are_named_as_on_the_hub(tmp_path: Path) -> None:
    shards = Shards(tmp_path, limit=8)
    for i in range(3):
        shards.add(f"x{i}", mx.array([i, i + 1], mx.float32))
    shards.finish()
    names = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, INDEX]
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"] == {"total_size": 24}
    for i, name in enumerate(names):
        assert index["weight_map"][f"x{i}"] == name
        assert np.array_equal(load_file(tmp_path / name)[f"x{i}"], [i, i + 1])


def test_a_file_is_no_larger_than_the_hub_s_are() -> None:
    assert SHARD == 5_000_000_000


def test_one_file_needs_no_index(tmp_path: Path) -> None:
    shards = Shards(tmp_path, limit=1000)
    shards.add("x", mx.ones((3,), mx.float16))
    shards.finish()
    assert [path.name for path in tmp_path.iterdir()] == [SINGLE] and shards.bytes == 6


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    shards = Shards(tmp_path / "gone", limit=1000)
    shards.add("x", mx.ones((3,)))
    with pytest.raises(CheckpointError, match=r"part-0\.safetensors cannot be written"):
        shards.finish()


def test_a_new_directory_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    into = tmp_path / "a" / "b"
    with pytest.raises(KeyError), new_directory(into) as part:
        (part / "x").touch()
        raise KeyError
    assert [*tmp_path.iterdir()] == []
    with new_directory(into) as part:
        (part / "x").touch()
        assert not into.exists()
    assert [*tmp_path.rglob("*")] == [into.parent, into, into / "x"]
    for there in (into, tmp_path / "a" / "c"):
        (tmp_path / "a" / "c.part").mkdir(exist_ok=True)
        with pytest.raises(CheckpointError, match="exists already"), new_directory(there):
            pytest.fail("it is not entered")
    (tmp_path / "empty").mkdir()
    with new_directory(tmp_path / "empty") as part:
        (part / "y").touch()
    assert (tmp_path / "empty" / "y").exists()
