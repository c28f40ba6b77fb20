"""A checkpoint directory: its config and its tensors' headers, checked before any is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from ..remedies import unreadable
from .json_files import is_gguf, is_pointer, pointer_flaw, read_object
from .weight_files import INDEX, CheckpointError, WeightFiles, held_twice, instead_of, weight_files

if TYPE_CHECKING:
    from ..gguf.tensors import Source


@dataclass(frozen=True, slots=True)
class Header:
    """One tensor's entry in a file; name and dtype in the spelling of the file."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    source: "Source | None" = None  # of a GGUF file's


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A directory's config and tensors, by their names in the files until they are renamed."""

    path: Path
    config: dict[str, Any]
    tensors: dict[str, Header]


def open_checkpoint(path: Path, config: dict[str, Any] | None = None) -> Checkpoint:
    """Open a checkpoint without reading a tensor; `config` is its config.json if read already."""
    if is_gguf(path):
        return _open_gguf(path, config)
    if not path.is_dir():
        raise CheckpointError(instead_of(path) or f"{path} is not a directory")
    config = read_json(path / "config.json") if config is None else config
    return Checkpoint(path, config, _tensors(weight_files(path)))


def _open_gguf(path: Path, config: dict[str, Any] | None) -> Checkpoint:
    from ..gguf.tensors import gguf_tensors

    config = read_json(path / "config.json") if config is None else config
    headers = {
        name: Header(each.tensor.file, name, each.shape, each.dtype, each)
        for name, each in gguf_tensors(path).items()
    }
    return Checkpoint(path, config, headers)


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
    except FileNotFoundError:  # or what safetensors says of any file that it cannot open
        raise CheckpointError(_unopened(path)) from None
    except (OSError, SafetensorError) as error:
        if is_pointer(path):
            raise CheckpointError(pointer_flaw(path)) from None
        raise CheckpointError(f"{path} is damaged: {error}") from None


def _unopened(path: Path) -> str:
    try:
        path.open("rb").close()
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return unreadable(path, error)
    return f"{path} could not be read; try again"


def _tensors(weights: WeightFiles) -> dict[str, Header]:
    """Read all headers; of a tensor that several files hold an index says which one counts."""
    tensors: dict[str, Header] = {}
    for file in weights.files:
        for name, header in read_headers(file).items():
            if weights.promised.get(name, file.name) != file.name:
                continue
            if name in tensors:
                raise held_twice(name, file, tensors[name].file)
            tensors[name] = header
    for name, promised in weights.promised.items():
        if name not in tensors:
            file = weights.files[0].with_name(promised)
            raise CheckpointError(f"{file} lacks the tensor {name} that {INDEX} promises")
    return tensors
