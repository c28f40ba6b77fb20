"""The GGUF container: what a file says of its model, and where its tensors lie.

The layout is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.
"""

import builtins
import math
import mmap
import re
import reprlib
import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from ctypes import c_float
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, overload

from ..checkpoint.json_files import not_a_file
from ..checkpoint.weight_files import CheckpointError, held_twice
from ..remedies import unreadable
from .block_types import TYPES, Type
from .fields import kind_of

MAGIC = b"GGUF"
VERSIONS = 2, 3
ALIGNMENT = 32
FLOAT32, STRING, ARRAY = 6, 8, 9
CODES = {**dict(enumerate("BbHhIif?")), 10: "Q", 11: "q", 12: "d"}  # of struct
SCALARS = {number: struct.Struct(f"<{code}") for number, code in CODES.items()}
LENGTH = struct.Struct("<Q")
DIMENSIONS = 4
LONGEST = 1 << 24  # of a list: vocabularies have some 2**18
SPLIT = re.compile(r"(?P<before>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})(?P<after>\.gguf)")
SPLIT_COUNT = "split.count"


class Texts(Sequence[str]):
    """The texts of an array, each decoded when it is asked for: a vocabulary's take much memory.

    `raw` has each after its length; `places` are theirs, and the end.
    """

    def __init__(self, raw: builtins.bytes, places: "array[int]") -> None:
        self._raw, self._places = raw, places

    def __len__(self) -> int:
        return len(self._places) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        start, end = self._places[place] + LENGTH.size, self._places[place + 1]
        return self._raw[start:end].decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        raw, size, places = self._raw, LENGTH.size, pairwise(self._places)
        return (raw[begin + size : end].decode("utf-8", "surrogateescape") for begin, end in places)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and [*self] == [*other]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return reprlib.repr([*islice(self, 7)])


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
        return self.said(f"{self.architecture}.{name}")

    def said(self, name: str, default: Any = None) -> Any:
        """Return what is said of a field. Raises CheckpointError if it is of another kind."""
        value = self.metadata.get(name)
        if value is None:
            return default
        kind = kind_of(name)
        if not kind.holds(value):
            shown = reprlib.repr(value)
            raise CheckpointError(
                f"{self.path}: {name} is {shown}, expected {kind.said}; fetch it again"
            )
        return value

    def tensor(self, name: str) -> GgufTensor:
        """Return a tensor. Raises CheckpointError if there is no such."""
        if name not in self.tensors:
            raise CheckpointError(f"{self.path} lacks the tensor {name}")
        return self.tensors[name]

    def numbers(self, name: str) -> list[float]:
        """Read a small tensor of float32; raises CheckpointError."""
        tensor = self.tensor(name)
        if tensor.type != TYPES[0]:
            raise CheckpointError(f"{tensor.file} holds {name} as {tensor.type.name}, not as F32")
        return [value for (value,) in SCALARS[FLOAT32].iter_unpack(tensor.read())]


def read_gguf(path: Path) -> Gguf:
    """Read a file's beginning, and those of the others of its set; raises CheckpointError."""
    first = _read(path)
    count = first.said(SPLIT_COUNT, 1)
    if count in (0, 1):
        return first
    files = [each for each in split_files(path, count) if each != path]
    read = [first, *map(_read, files)]
    numbered = {(part.said("split.no"), part.said(SPLIT_COUNT)): part for part in read}
    if numbered.keys() != {(number, count) for number in range(count)}:
        raise _mixed(path)
    parts = [numbered[number, count] for number in range(count)]
    tensors: dict[str, GgufTensor] = {}
    for part in parts:
        for name, tensor in part.tensors.items():
            if name in tensors:
                raise held_twice(name, part.path, tensors[name].file)
            tensors[name] = tensor
    if len(tensors) != parts[0].said("split.tensors.count", len(tensors)):
        raise _mixed(path)
    return Gguf(path, parts[0].metadata, tensors)


def _mixed(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} and the files that are numbered with it are not of one model; fetch them all again"
    )


def opened(path: Path) -> Gguf:
    """Return a file's beginning, read again only where the file has changed."""
    try:
        about = path.stat()
    except OSError:
        return read_gguf(path)  # which says what is the matter
    return _opened(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=8)  # of models that are being loaded
def _opened(path: Path, _changed: int, _size: int) -> Gguf:
    return read_gguf(path)


def forget() -> None:
    """Let go what `opened` keeps, for a vocabulary takes memory, once all models are loaded."""
    _opened.cache_clear()


def gguf_files(path: Path) -> tuple[Path, ...]:
    """Return a file and the others of its set; raises CheckpointError."""
    count = opened(path).said(SPLIT_COUNT, 1)
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
                not_a_file(file)
                or f"{file} is missing, one of the {count} files of a model; fetch it too"
            )
    return files


def _read(path: Path) -> Gguf:
    if flaw := not_a_file(path):
        raise CheckpointError(flaw)
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
    shown = (float(f"{value:.{digits}g}") for digits in range(10))  # nine tell all apart
    return next((each for each in shown if c_float(each).value == value), value)


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
        for _ in range(fields):
            name = self._string()
            if name in metadata:
                raise _damaged(self._path, f"it says {name} twice")
            metadata[name] = self._value(self._number("<I"))
        places = [self._tensor() for _ in range(tensors)]
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
        if not isinstance(alignment, int) or alignment < 8 or alignment % 8:
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
            columns = shape[-1] if shape else 1
            if columns % type.values:
                raise _damaged(
                    self._path,
                    f"the tensor {name} has {columns} columns, in {type.name}'s blocks of "
                    f"{type.values}",
                )
            if 0 in shape or offset % alignment:
                where = "no numbers" if 0 in shape else f"its numbers at {offset}, off its place"
                raise _damaged(self._path, f"the tensor {name} has {where}")
            tensor = GgufTensor(self._path, name, shape, type, start + offset)
            if tensor.offset + tensor.bytes > len(self._content):
                raise _damaged(self._path, f"it ends before its tensor {name}")
            if name in tensors:
                raise _damaged(self._path, f"it has the tensor {name} twice")
            tensors[name] = tensor
        self._check_apart(tensors)
        return tensors

    def _check_apart(self, tensors: Mapping[str, GgufTensor]) -> None:
        ordered = sorted(tensors.values(), key=lambda tensor: tensor.offset)
        for before, after in pairwise(ordered):
            if before.offset + before.bytes > after.offset:
                raise _damaged(
                    self._path, f"its tensors {before.name} and {after.name} lie over each other"
                )

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            return self._array()
        if kind not in SCALARS:
            raise _damaged(self._path, f"it has a value of type {kind}")
        value = self._scalar(SCALARS[kind])
        return shortest(value) if kind == FLOAT32 else value

    def _array(self) -> Sequence[Any]:
        kind, count = self._number("<I"), self._number("<Q")
        if kind == ARRAY or count > LONGEST:
            what = "lists in a list" if kind == ARRAY else f"a list of {count} values"
            raise _damaged(self._path, f"it has {what}")
        if kind in SCALARS:
            code = SCALARS[kind]
            raw = self._take(count * code.size)
            return [value for (value,) in code.iter_unpack(raw)]
        if kind != STRING:
            raise _damaged(self._path, f"it has values of type {kind}")
        return self._texts(count)

    def _texts(self, count: int) -> Texts:
        """Walk past so many texts."""
        places, begin, content = array("Q", [0]), self._place, self._content
        place, whole, length, each = begin, len(content), LENGTH.unpack_from, LENGTH.size
        for _ in range(count):
            if place + each > whole or (place := place + each + length(content, place)[0]) > whole:
                raise _damaged(self._path, "it ends early")
            places.append(place - begin)
        return Texts(self._take(place - begin), places)

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
