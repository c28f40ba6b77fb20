"""A checkpoint directory: its config and its tensors' headers, checked before any is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from .json_files import read_object

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


class CheckpointError(ValueError):
    """A checkpoint that is damaged or contradicts itself; names the file and the tensor."""


@dataclass(frozen=True, slots=True)
class Header:
    """One tensor's entry in a file; name and dtype in the spelling of the file."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A directory's config and tensors, by their names in the files until they are renamed."""

    path: Path
    config: dict[str, Any]
    tensors: dict[str, Header]


def open_checkpoint(path: Path, config: dict[str, Any] | None = None) -> Checkpoint:
    """Open a checkpoint without reading a tensor; `config` is its config.json if read already."""
    if not path.is_dir():
        raise CheckpointError(f"{path} is not a directory")
    config = read_json(path / "config.json") if config is None else config
    if (path / SINGLE).exists() or not (path / INDEX).exists():
        return Checkpoint(path, config, read_headers(path / SINGLE))
    return Checkpoint(path, config, _sharded(path))


def read_json(path: Path) -> dict[str, Any]:
    value = read_object(path, CheckpointError)
    if value is None:
        raise CheckpointError(f"{path} is missing")
    return value


def read_headers(path: Path) -> dict[str, Header]:
    """Read a file's headers; the library checks that they are sound and the file long enough."""
    try:
        with safe_open(path, framework="numpy") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {
                name: Header(path, name, tuple(part.get_shape()), part.get_dtype())
                for name, part in parts.items()
            }
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None


def _sharded(path: Path) -> dict[str, Header]:
    listed = read_json(path / INDEX).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(file, str) for file in listed.values()):
        raise CheckpointError(f"{path / INDEX} has no weight_map of tensor names to file names")
    tensors: dict[str, Header] = {}
    for file in sorted(set(listed.values())):
        if Path(file).name != file:
            raise CheckpointError(f"{path / INDEX} names {file!r}, which is not in the directory")
        tensors |= read_headers(path / file)
    for name, file in listed.items():
        if name not in tensors or tensors[name].file.name != file:
            raise CheckpointError(f"{path / file} lacks the tensor {name} that {INDEX} promises")
    return tensors
