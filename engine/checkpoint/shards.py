"""The files of a new checkpoint, each written as soon as it is full."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import mlx.core as mx

from .weight_files import INDEX, SINGLE, CheckpointError

SHARD = 5 * 10**9  # bytes of a file at most, as on the hub


@dataclass(slots=True)
class Shards:
    """A new checkpoint's files: tensors are held until `limit` bytes of them make one.

    A larger tensor is a file by itself. `bytes` counts all tensors that were added.
    """

    folder: Path
    limit: int
    bytes: int = 0
    _held: dict[str, mx.array] = field(default_factory=dict)
    _holds: int = 0
    _files: list[list[str]] = field(default_factory=list)  # the tensors of each

    def add(self, name: str, array: mx.array) -> None:
        mx.eval(array)
        if self._held and self._holds + array.nbytes > self.limit:
            self._write()
        self._held[name] = array
        self._holds += array.nbytes
        self.bytes += array.nbytes

    def finish(self) -> None:
        """Give the files their names, and write the index where there are several."""
        self._write()
        count = len(self._files)
        names = [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
        names = [SINGLE] if count == 1 else names
        for i, name in enumerate(names):
            self._part(i).rename(self.folder / name)
        if count > 1:
            lists = zip(self._files, names, strict=True)
            self._index({tensor: name for tensors, name in lists for tensor in tensors})

    def _write(self) -> None:
        file = self._part(len(self._files))
        try:
            mx.save_safetensors(str(file), self._held, metadata={"format": "mlx"})
        except RuntimeError as error:
            flaw = f"{file} cannot be written; the disk may be full ({error})"
            raise CheckpointError(flaw) from None
        self._files.append(list(self._held))
        self._held, self._holds = {}, 0

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number}.safetensors"

    def _index(self, files: Mapping[str, str]) -> None:
        index = {"metadata": {"total_size": self.bytes}, "weight_map": files}
        (self.folder / INDEX).write_text(json.dumps(index, indent=1))


@contextmanager
def new_directory(into: Path) -> Iterator[Path]:
    """Make a directory that becomes `into` if all goes well; else nothing of it is left.

    An empty directory may be there.
    """
    part = into.with_name(f"{into.name}.part")
    for each in (into, part):
        empty = each == into and each.is_dir() and not any(each.iterdir())
        if each.exists() and not empty:
            raise CheckpointError(f"{each} exists already; name a new directory")
    missing = [parent for parent in into.parents if not parent.exists()]
    try:
        part.mkdir(parents=True)
        yield part
        part.rename(into)
    finally:  # where all went well there is no part, and no parent is empty
        shutil.rmtree(part, ignore_errors=True)
        for parent in missing:
            with suppress(OSError):  # never made, or something is in there
                parent.rmdir()
