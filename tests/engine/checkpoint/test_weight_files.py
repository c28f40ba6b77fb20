"""Which files of a directory are its weights, and a sentence where none are."""

import json
from pathlib import Path

import pytest

from bessemer.engine.checkpoint.weight_files import (
    INDEX,
    SINGLE,
    CheckpointError,
    instead_of,
    weight_files,
)

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
# The names of a directory's files, and those that are its weights.
FOUND = {
    "one file": ([SINGLE], [SINGLE]),
    "one shard under its number": (
        ["model-00001-of-00001.safetensors"],
        ["model-00001-of-00001.safetensors"],
    ),
    "shards without an index": ([SECOND, FIRST], [FIRST, SECOND]),
    "shards counted from 0": (
        ["model-00001-of-00002.safetensors", "model-00000-of-00002.safetensors"],
        ["model-00000-of-00002.safetensors", "model-00001-of-00002.safetensors"],
    ),
    "Qwen's names": (
        [f"model.safetensors-0000{i}-of-00002.safetensors" for i in (1, 2)],
        [f"model.safetensors-0000{i}-of-00002.safetensors" for i in (1, 2)],
    ),
    "a total in more digits": (
        ["model-00001-of-000001.safetensors"],
        ["model-00001-of-000001.safetensors"],
    ),
    "MLX's old names": (
        ["weights.01.safetensors", "weights.00.safetensors", "weights.npz"],
        ["weights.00.safetensors", "weights.01.safetensors"],
    ),
    "MLX's old name": (["weights.safetensors"], ["weights.safetensors"]),
    "a name of its own": (["gemma.safetensors"], ["gemma.safetensors"]),
    "names of their own": (["b.safetensors", "a.safetensors"], ["a.safetensors", "b.safetensors"]),
    "a precision in the name": (["model.fp16.safetensors"], ["model.fp16.safetensors"]),
    "Mistral's own layout beside it": ([SINGLE, "consolidated.safetensors"], [SINGLE]),
    "Meta's own layout beside shards": (
        [FIRST, SECOND, "consolidated-00001-of-00001.safetensors"],
        [FIRST, SECOND],
    ),
    "an adapter beside it": (
        ["adapter_model.safetensors", "adapters.safetensors", FIRST, SECOND],
        [FIRST, SECOND],
    ),
    "an optimizer beside it": (["optimizer.safetensors", "x.safetensors"], ["x.safetensors"]),
    "macOS's resource forks beside it": (
        ["._model.safetensors", "._x.safetensors", SINGLE],
        [SINGLE],
    ),
    "a model before files of other names": (
        ["mtp.safetensors", "model_a.safetensors"],
        ["model_a.safetensors"],
    ),
    "numbered shards before what is not numbered": (
        [FIRST, SECOND, "model.fp16.safetensors"],
        [FIRST, SECOND],
    ),
    "the plain set before those of other names": (
        [
            "model.fp16-00001-of-00001.safetensors",
            "model-mtp-00001-of-00002.safetensors",
            FIRST,
            SECOND,
        ],
        [FIRST, SECOND],
    ),
    "sets of several names": (
        ["model-a-00001-of-00001.safetensors", "model-b-00001-of-00001.safetensors"],
        ["model-a-00001-of-00001.safetensors", "model-b-00001-of-00001.safetensors"],
    ),
    "a whole set before one that lacks a file": (
        [FIRST, SECOND, "model-00002-of-00003.safetensors"],
        [FIRST, SECOND],
    ),
    "other formats beside it": ([SINGLE, "pytorch_model.bin", "model.gguf"], [SINGLE]),
}


def fill(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).write_bytes(b"")
    return path


def index(path: Path, **files: str) -> None:
    (path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}))


def names(path: Path) -> list[str]:
    return [file.name for file in weight_files(path).files]


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        weight_files(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


@pytest.mark.parametrize("case", FOUND)
def test_what_is_found(case: str, tmp_path: Path) -> None:
    there, oracle = FOUND[case]
    assert names(fill(tmp_path, *there)) == oracle
    assert not weight_files(tmp_path).promised


def test_an_index_says_which_files(tmp_path: Path) -> None:
    fill(tmp_path, "part-a.safetensors", "part-b.safetensors", FIRST)
    index(tmp_path, x="part-b.safetensors", y="part-a.safetensors")
    assert names(tmp_path) == ["part-a.safetensors", "part-b.safetensors"]
    assert weight_files(tmp_path).promised == {"x": "part-b.safetensors", "y": "part-a.safetensors"}


def test_one_whole_file_goes_before_an_index(tmp_path: Path) -> None:
    fill(tmp_path, SINGLE, FIRST, SECOND)
    index(tmp_path, x=FIRST, y=SECOND)
    assert names(tmp_path) == [SINGLE]
    index(tmp_path, x=FIRST, y="gone.safetensors")
    assert names(tmp_path) == [SINGLE]
    index(tmp_path, x=SINGLE)  # as MLX writes it, or of another conversion
    assert names(tmp_path) == [SINGLE] and not weight_files(tmp_path).promised
    (tmp_path / INDEX).write_text("{")
    assert names(tmp_path) == [SINGLE]


def test_an_index_may_name_the_whole_file_and_more(tmp_path: Path) -> None:
    fill(tmp_path, SINGLE, "mtp.safetensors")
    index(tmp_path, x=SINGLE, y="mtp.safetensors")
    assert names(tmp_path) == [SINGLE, "mtp.safetensors"]


@pytest.mark.parametrize(
    ("there", "lacks"),
    [
        ([SECOND], FIRST),
        ([FIRST], SECOND),
        (["model-00000-of-00002.safetensors"], "model-00001-of-00002.safetensors"),
        (["weights.01.safetensors"], "weights.00.safetensors"),
        (["weights.00.safetensors", "weights.02.safetensors"], "weights.01.safetensors"),
        ([FIRST, "model-00001-of-00003.safetensors"], SECOND),
        (["x-00002-of-00002.safetensors"], "x-00001-of-00002.safetensors"),
    ],
)
def test_a_missing_one_of_a_set_is_named(there: list[str], lacks: str, tmp_path: Path) -> None:
    assert f"{tmp_path / lacks} is missing" in refusal(fill(tmp_path, *there))


def test_several_missing_ones_are_counted(tmp_path: Path) -> None:
    said = refusal(fill(tmp_path, "model-00001-of-999999999.safetensors"))
    assert "model-00002-of-999999999.safetensors is missing, of a numbered set of which 1" in said
    index(tmp_path, x="a", y="b", z="c")
    assert f"{tmp_path / 'a'} is missing, which {INDEX} names, and so are 2 more" in refusal(
        tmp_path
    )


def test_a_link_that_leads_nowhere_is_missing(tmp_path: Path) -> None:
    """A cache of Hugging Face's, of which a part was cleared away."""
    fill(tmp_path, FIRST)
    (tmp_path / SECOND).symlink_to(tmp_path / "blob")
    assert f"{SECOND} is missing" in refusal(tmp_path)
    index(tmp_path, x=FIRST, y=SECOND)
    said = f"{SECOND} is a link to {tmp_path / 'blob'}, which is missing; fetch it again"
    assert said in refusal(tmp_path)


def test_files_that_an_index_names_and_are_absent_are_named(tmp_path: Path) -> None:
    fill(tmp_path, SECOND)
    index(tmp_path, x=FIRST, y=SECOND)
    assert f"{FIRST} is missing, which {INDEX} names" in refusal(tmp_path)
    index(tmp_path, x=SECOND, y="../x.safetensors")
    assert "which is not in the directory" in refusal(tmp_path)


# What else a directory may hold, and a part of what is said of it.
INSTEAD = {
    "model-Q4_K_M.gguf": "is a GGUF file, which is a model by itself",
    "MODEL.GGUF": "is a GGUF file",
    "weights.npz": "mlx.core.save_safetensors",
    "weights.00.npz": "mlx.core.save_safetensors",
    "pytorch_model.bin": "is PyTorch's file",
    "pytorch_model-00001-of-00002.bin": "fetch the model's *.safetensors",
    "consolidated.00.pth": "is PyTorch's file",
    "consolidated.safetensors": "by their maker's own names",
    "adapter_model.safetensors": "is an adapter, not a model",
    "adapter_model.bin": "is an adapter, not a model",
    "adapters.npz": "is an adapter, not a model",
    "adapters.safetensors": "is an adapter, not a model",
    "tf_model.h5": "another framework",
    "flax_model.msgpack": "another framework",
}


@pytest.mark.parametrize("name", INSTEAD)
def test_what_is_there_in_place_of_weights_is_named(name: str, tmp_path: Path) -> None:
    said = refusal(fill(tmp_path, "config.json", name))
    assert said.startswith(f"{tmp_path / name} ") and INSTEAD[name] in said


def test_nothing_at_all(tmp_path: Path) -> None:
    said = refusal(fill(tmp_path, "config.json", "README.md"))
    assert f"{tmp_path / SINGLE} is missing" in said and "fetch" in said


def test_a_file_by_itself(tmp_path: Path) -> None:
    said = instead_of(tmp_path / "a.gguf")
    assert said is not None and said.startswith(f"{tmp_path / 'a.gguf'} is a GGUF file")
    assert instead_of(tmp_path / SINGLE) is None
