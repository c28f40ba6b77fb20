"""A step's C calls written down as words, so that C can run them again without Python.

While a step is recorded nothing is computed: a call's words are noted, and its results are memory
filled with one number. An address is taken only where it is known what lies there in every later
step: what stays where it is (`Memory`), or a result of the same recording. All else is refused, so
what MLX computes on the way can never be taken for a constant.
"""

import ctypes
import struct
import sys
import weakref
from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np

from .library import FLOAT, INT, POINTER, VALUES, Function, address, library, ready, recording

MASK = (1 << 64) - 1
SIZE = ctypes.sizeof(POINTER)
KINDS: dict[type, str] = {
    INT: "i",
    FLOAT: "f",
}  # of an argument's word, as in export.h; others are pointers


class NotRecorded(Exception):
    """A step cannot be run by its words; the message says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """An address in a result of the recording: which one, and the bytes before it."""

    result: int
    offset: int


@dataclass(frozen=True, slots=True)
class Block:
    """A struct that a call points to: its bytes, and what else is to be written at some of them."""

    data: bytes
    pointers: "tuple[tuple[int, Place | Block], ...]"


Word = int | Place | Block


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    entry: int  # the address of what takes its words
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """A step's calls in their order, and the bytes of each result."""

    calls: tuple[Call, ...]
    sizes: tuple[int, ...]


class Memory:
    """What calls may point to beside each other's results: it stays where it is, and lives on.

    An array that C wants in another type or order is converted once, as its values stay too.
    """

    def __init__(self, arrays: "Iterable[mx.array | np.ndarray]") -> None:
        self._arrays = {id(each): each for each in arrays if each.size}
        self._converted: dict[int, mx.array] = {}
        self._spans: list[tuple[int, int]] = []
        for each in self._arrays.values():
            if memoryview(each).c_contiguous:  # type: ignore[arg-type]
                self._add(each)

    def _add(self, array: "mx.array | np.ndarray") -> None:
        insort(self._spans, (start := address(array), start + array.nbytes))

    def __contains__(self, place: int) -> bool:
        """Return whether an address lies in one of the arrays."""
        index = bisect_right(self._spans, (place, MASK)) - 1
        return index >= 0 and place < self._spans[index][1]

    def holds(self, array: mx.array) -> bool:
        return id(array) in self._arrays

    def ready(self, x: mx.array) -> mx.array:
        """Return one of these as `library.ready` does, the same array each time."""
        if id(x) not in self._converted:
            self._converted[id(x)] = ready(x)
            self._add(self._converted[id(x)])
        return self._converted[id(x)]


@dataclass(slots=True)
class Recorder:
    """Notes the calls of one step; all its results are filled with `fill`."""

    memories: tuple[Memory, ...]
    fill: int
    calls: list[Call] = field(default_factory=list)
    _entries: dict[str, int] = field(default_factory=dict)
    _sizes: list[int] = field(default_factory=list)
    _spans: list[tuple[int, int, int]] = field(default_factory=list)  # start, end, which result

    @property
    def recording(self) -> Recording:
        return Recording(tuple(self.calls), tuple(self._sizes))

    def empty(self, shape: tuple[int, ...], dtype: type) -> mx.array:
        """Allocate a result; it is known for as long as Python holds it, or a view of it."""
        result = mx.array(np.full(shape, self.fill, dtype))
        self._sizes.append(result.nbytes)
        self._know(result, address(result), len(self._sizes) - 1)
        return result

    def view(self, x: mx.array, shape: tuple[int, ...]) -> mx.array:
        """Return x in another shape."""
        view = x.reshape(shape)
        start = address(ready(view))
        word = self.word(start)
        if isinstance(word, Place):
            self._know(view, start - word.offset, word.result)
        return view

    def _know(self, handle: mx.array, start: int, result: int) -> None:
        span = (start, start + self._sizes[result], result)
        insort(self._spans, span)
        weakref.finalize(handle, self._spans.remove, span)

    def native(self, name: str, types: tuple[type, ...]) -> Function:
        """Return what notes a call of a function of such arguments, in the function's place."""
        if name not in self._entries:
            self._entries[name] = entry(name, types) if name else 0
        place = self._entries[name]

        def note(*arguments: Any) -> int:
            self.calls.append(Call(name, place, tuple(map(self._word, types, arguments))))
            return 0

        return note

    def result(self, x: mx.array) -> int:
        """Return which result an array is. Raises NotRecorded where it is none, or a part."""
        place = self.word(address(ready(x)))
        if not isinstance(place, Place) or x.nbytes != self._sizes[place.result]:
            raise NotRecorded("the last array is no result of a call")
        return place.result

    def word(self, place: int) -> int | Place:
        """Return an address as a word. Raises NotRecorded where nobody knows what lies there."""
        index = bisect_right(self._spans, (place, MASK, 0)) - 1
        if index >= 0 and place < self._spans[index][1]:
            start, _, result = self._spans[index]
            return Place(result, place - start)
        if any(place in memory for memory in self.memories):
            return place
        raise NotRecorded("an argument was computed by MLX")

    def _word(self, kind: type, argument: Any) -> Word:
        if argument is None:
            return 0
        if kind is INT:
            return int(argument) & MASK
        if kind is FLOAT:
            return int.from_bytes(struct.pack("<f", argument), "little")
        if kind is POINTER:
            return self.word(argument)
        if isinstance(argument, ctypes.Structure):
            return self._block(argument)
        return self.word(address(self._ready(argument) if kind is VALUES else argument))

    def _ready(self, x: mx.array) -> mx.array:
        memory = next((each for each in self.memories if each.holds(x)), None)
        return ready(x) if memory is None else memory.ready(x)

    def _block(self, value: ctypes.Structure) -> Block:
        data, pointers = bytearray(value), []
        for offset, kind in _pointers(type(value)):
            place = int.from_bytes(data[offset : offset + SIZE], sys.byteorder)
            if not place:
                continue
            word = self.word(place) if kind is None else self._block(kind.from_address(place))
            if not isinstance(word, int):
                data[offset : offset + SIZE] = bytes(SIZE)
                pointers.append((offset, word))
        return Block(bytes(data), tuple(pointers))


@cache
def _pointers(kind: type[ctypes.Structure]) -> tuple[tuple[int, Any], ...]:
    """List where a struct has pointers, and the struct that each points to, None for numbers."""
    found: list[tuple[int, Any]] = []
    for name, inner, *_ in kind._fields_:
        offset = getattr(kind, name).offset
        if issubclass(inner, ctypes.Structure):
            found += [(offset + within, to) for within, to in _pointers(inner)]
        elif inner is POINTER or hasattr(inner, "contents"):
            found.append((offset, None if inner is POINTER else inner._type_))
    return tuple(found)


def entry(name: str, types: tuple[type, ...]) -> int:
    """Return the address of a function's entry. Raises NotRecorded where it has none."""
    loaded = library()
    assert loaded is not None
    handle = loaded.handle
    try:
        text = ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(handle, f"{name}_words")))
        place = ctypes.cast(getattr(handle, f"{name}_entry"), POINTER).value
    except (AttributeError, ValueError):
        raise NotRecorded(f"{name} has no entry for programs") from None
    declared = ", ".join(f"w[{i}].{KINDS.get(kind, 'p')}" for i, kind in enumerate(types))
    assert text.decode() == declared, f"{name} is declared otherwise in C: {text.decode()}"
    assert place is not None
    return place


@contextmanager
def recorded_by(recorder: Recorder) -> Iterator[None]:
    """Note the calls that are made within, instead of making them."""
    token = recording.set(recorder)
    try:
        yield
    finally:
        recording.reset(token)
