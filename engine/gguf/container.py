"""The GGUF container: what a file says of its model, and where its tensors lie.

The layout is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.
"""

import builtins
import math
import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..checkpoint.weight_files import CheckpointError, held_twice
from ..remedies import unreadable
from .block_types import TYPES, Type

MAGIC = b"GGUF"
VERSIONS = 2, 3
ALIGNMENT = 32
FLOAT32, STRING, ARRAY = 6, 8, 9
SCALARS = {
    number: struct.Struct(f"<{code}")
    for number, code in enumerate("BbHhIif?")
    if number not in (STRING, ARRAY)
} | {10: struct.Struct("<Q"), 11: struct.Struct("<q"), 12: struct.Struct("<d")}
DIMENSIONS = 4
SPLIT = re.compile(r"(?P<before>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})(?P<after>\.gguf)")
SPLIT_COUNT = "split.count"


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor's place; its shape has rows first, as everywhere but in the file."""

    file: Path
    name: str
    shape: tuple[int, ...]
    type: Type
    offset: int

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) // self.type.values * self.type.bytes

    def read(self) -> builtins.bytes:
        """Read a small tensor; raises CheckpointError."""
        try:
            with self.file.open("rb") as file:
                file.seek(self.offset)
                return file.read(self.bytes)
        except OSError as error:
            raise CheckpointError(unreadable(self.file, error)) from None


@dataclass(frozen=True, slots=True)
class Gguf:
    """A model: what is said of it, and its tensors by name, from all files of a split one."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture"))

    def value(self, name: str) -> Any:
        """Return what is said below the architecture's name; None if nothing is."""
        return self.metadata.get(f"{self.architecture}.{name}")

    def tensor(self, name: str) -> GgufTensor:
        """Return a tensor. Raises CheckpointError if there is no such."""
        if name not in self.tensors:
            raise CheckpointError(f"{self.path} lacks the tensor {name}")
        return self.tensors[name]

    def numbers(self, name: str) -> list[float]:
        """Read a small tensor of float32."""
        return [value for (value,) in SCALARS[FLOAT32].iter_unpack(self.tensor(name).read())]


def read_gguf(path: Path) -> Gguf:
    """Read a file's beginning, and those of the others of its set; raises CheckpointError."""
    first = _read(path)
    count = first.metadata.get(SPLIT_COUNT, 1)
    if count in (0, 1):
        return first
    files = [each for each in split_files(path, count) if each != path]
    parts = [first, *map(_read, files)]
    parts.sort(key=lambda part: part.metadata.get("split.no", 0))
    tensors: dict[str, GgufTensor] = {}
    for part in parts:
        for name, tensor in part.tensors.items():
            if name in tensors:
                raise held_twice(name, part.path, tensors[name].file)
            tensors[name] = tensor
    return Gguf(path, parts[0].metadata, tensors)


def opened(path: Path) -> Gguf:
    """Return a file's beginning, read again only where the file has changed."""
    try:
        about = path.stat()
    except OSError:
        return read_gguf(path)  # which says what is the matter
    return _opened(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=1)
def _opened(path: Path, _changed: int, _size: int) -> Gguf:
    return read_gguf(path)


def gguf_files(path: Path) -> tuple[Path, ...]:
    """Return a file and the others of its set; raises CheckpointError."""
    count = opened(path).metadata.get(SPLIT_COUNT, 1)
    return (path,) if count in (0, 1) else tuple(split_files(path, count))


def split_files(path: Path, count: int) -> list[Path]:
    """Return the files of a numbered set, all there; raises CheckpointError."""
    match = SPLIT.fullmatch(path.name)
    if match is None or int(match["total"]) != count:
        raise CheckpointError(
            f"{path} is one of {count} files of a model, whose names end in "
            f"-00001-of-{count:05}.gguf; give it the name that it had"
        )
    files = [
        path.with_name(f"{match['before']}-{number:05}-of-{match['total']}{match['after']}")
        for number in range(1, count + 1)
    ]
    for file in files:
        if not file.is_file():
            raise CheckpointError(
                f"{file} is missing, one of the {count} files of a model; fetch it too"
            )
    return files


def _read(path: Path) -> Gguf:
    try:
        with path.open("rb") as file:
            if not (size := path.stat().st_size):
                raise _damaged(path, "it is empty")
            with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
                return _Reader(path, content).read()
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except OSError as error:
        raise CheckpointError(unreadable(path, error)) from None


def shortest(value: float) -> float:
    """Return the number of fewest digits that float32 does not tell from this one of its own."""
    if abs(value) > 1e38:  # more digits might round beyond what float32 holds
        return value
    as_it_is = struct.pack("<f", value)
    shown = (float(f"{value:.{digits}g}") for digits in range(1, 9))
    return next((each for each in shown if struct.pack("<f", each) == as_it_is), value)


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path} is no sound GGUF file: {why}; fetch it again")


class _Reader:
    """A file's content, read from its beginning."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self._path = path
        self._content = content
        self._place = 0

    def read(self) -> Gguf:
        self._check_version()
        tensors, fields = self._number("<Q"), self._number("<Q")
        metadata: dict[str, Any] = {}
        for _ in range(self._counted(fields, 13)):
            name = self._string()
            metadata[name] = self._value(self._number("<I"))
        places = [self._tensor() for _ in range(self._counted(tensors, 24))]
        return Gguf(self._path, metadata, self._placed(places, self._alignment(metadata)))

    def _check_version(self) -> None:
        if self._take(4) != MAGIC:
            raise _damaged(self._path, "it does not begin with GGUF")
        version = self._number("<I")
        if version in VERSIONS:
            return
        if int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS:
            raise CheckpointError(
                f"{self._path} is a GGUF file for machines of the other byte order; fetch the "
                "little-endian one"
            )
        raise CheckpointError(
            f"{self._path} has GGUF's version {version}, and {VERSIONS[0]} and {VERSIONS[-1]} are "
            "read; convert the model anew"
        )

    def _alignment(self, metadata: Mapping[str, Any]) -> int:
        alignment = metadata.get("general.alignment", ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0 or alignment % 8:
            raise _damaged(self._path, f"its alignment is {alignment!r}")
        return alignment

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name, count = self._string(), self._number("<I")
        if count > DIMENSIONS:
            raise _damaged(self._path, f"the tensor {name} has {count} dimensions")
        shape = tuple(self._number("<Q") for _ in range(count))[::-1]
        return name, shape, self._number("<I"), self._number("<Q")

    def _placed(
        self, places: list[tuple[str, tuple[int, ...], int, int]], alignment: int
    ) -> dict[str, GgufTensor]:
        start = -(-self._place // alignment) * alignment
        tensors: dict[str, GgufTensor] = {}
        for name, shape, kind, offset in places:
            if kind not in TYPES:
                raise CheckpointError(
                    f"{self._path}: the tensor {name} has the type {kind}, which is not known here"
                )
            type = TYPES[kind]
            if (shape[-1] if shape else 1) % type.values:
                raise _damaged(
                    self._path,
                    f"the tensor {name} has {shape[-1]} columns, in {type.name}'s blocks of "
                    f"{type.values}",
                )
            tensor = GgufTensor(self._path, name, shape, type, start + offset)
            if tensor.offset + tensor.bytes > len(self._content):
                raise _damaged(self._path, f"it ends before its tensor {name}")
            if name in tensors:
                raise _damaged(self._path, f"it has the tensor {name} twice")
            tensors[name] = tensor
        return tensors

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            return self._array()
        if kind not in SCALARS:
            raise _damaged(self._path, f"it has a value of type {kind}")
        value = self._scalar(SCALARS[kind])
        return shortest(value) if kind == FLOAT32 else value

    def _array(self) -> list[Any]:
        kind, count = self._number("<I"), self._number("<Q")
        if kind in SCALARS:
            code = SCALARS[kind]
            raw = self._take(self._counted(count, code.size) * code.size)
            return [value for (value,) in code.iter_unpack(raw)]
        count = self._counted(count, 8)
        return self._strings(count) if kind == STRING else [self._value(kind) for _ in range(count)]

    def _strings(self, count: int) -> list[str]:
        """Read as many as a vocabulary has, at half the time of one by one."""
        content, place, size = self._content, self._place, struct.Struct("<Q")
        strings: list[str] = []
        try:
            for _ in range(count):
                begin = place + size.size
                place = begin + size.unpack_from(content, place)[0]
                strings.append(content[begin:place].decode("utf-8", "surrogateescape"))
        except (struct.error, OverflowError):
            place = len(content) + 1
        self._place = place
        self._take(0)  # which says if it was too much
        return strings

    def _counted(self, count: int, least: int) -> int:
        """Return how many things follow; each takes at least so many bytes of what is left."""
        if count > (len(self._content) - self._place) // least:
            raise _damaged(self._path, "it ends early")
        return count

    def _string(self) -> str:
        return self._take(self._number("<Q")).decode("utf-8", "surrogateescape")

    def _number(self, code: str) -> int:
        return int(self._scalar(struct.Struct(code)))

    def _scalar(self, code: struct.Struct) -> Any:
        return code.unpack(self._take(code.size))[0]

    def _take(self, count: int) -> bytes:
        begin, self._place = self._place, self._place + count
        if self._place > len(self._content):
            raise _damaged(self._path, "it ends early")
        return self._content[begin : self._place]
