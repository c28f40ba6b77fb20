"""A recording made a program, which one call of C runs (program.c)."""

from collections.abc import Iterable, Iterator

import mlx.core as mx
import numpy as np

from .library import INT, POINTER, address, library
from .recorder import Block, Place, Recording, Word

LINE = 64  # bytes: results begin at a cache line


class Arena:
    """Memory for whatever runs next; who needs more gets another one, twice as large at most."""

    def __init__(self) -> None:
        self._array = mx.zeros((0,))

    def of(self, size: int) -> mx.array:
        """Return so many float32 numbers or more."""
        if size > self._array.size:
            self._array = mx.zeros((1 << (size - 1).bit_length(),))
            mx.eval(self._array)
        return self._array


class Program:
    """A recording's calls as C reads them; results that are needed at different times share memory.

    The result `out` has no memory here: each run is told where it goes.
    """

    def __init__(self, recording: Recording, out: int, arena: Arena) -> None:
        loaded = library()
        assert loaded is not None
        self._run = loaded.function("op_program", POINTER, INT)
        self._calls, self._out = len(recording.calls), out
        self._starts, size = arranged(recording, out)
        self._arena = arena.of((size + LINE) // 4)
        self._first = -(-address(self._arena) // LINE) * LINE
        self._blocks: list[np.ndarray] = []
        self._patches: list[tuple[np.ndarray, int, int]] = []  # where a part of `out` is written
        self._table = np.zeros(sum(2 + len(call.words) for call in recording.calls), np.uint64)
        at = 0
        for call in recording.calls:
            for index, word in enumerate((call.entry, len(call.words), *call.words), at):
                self._write(self._table, index, word)
            at += 2 + len(call.words)
        self._begin = address(self._table)

    def __call__(self, out: int) -> None:
        """Run all calls, the result `out` at this address. Raises MemoryError as C does."""
        for words, index, offset in self._patches:
            words[index] = out + offset
        self._run(self._begin, self._calls)

    def _write(self, words: np.ndarray, index: int, word: Word) -> None:
        if isinstance(word, Block):
            word = self._block(word)
        elif isinstance(word, Place) and word.result == self._out:
            self._patches.append((words, index, word.offset))
            return
        elif isinstance(word, Place):
            word = self._first + self._starts[word.result] + word.offset
        words[index] = word

    def _block(self, block: Block) -> int:
        """Write a struct, and return its address."""
        words = np.frombuffer(block.data, np.uint64).copy()
        self._blocks.append(words)
        for offset, word in block.pointers:
            assert offset % words.itemsize == 0
            self._write(words, offset // words.itemsize, word)
        return address(words)


def arranged(recording: Recording, out: int) -> tuple[dict[int, int], int]:
    """Return where each result but `out` begins, and the bytes of all.

    A result has its place from the first call that names it to the last one.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for index, call in enumerate(recording.calls):
        for result in _results(call.words):
            first.setdefault(result, index)
            last[result] = index
    sizes = [-(-size // LINE) * LINE for size in recording.sizes]
    starts: dict[int, int] = {}
    live: list[int] = []  # in the order of their places
    for result, index in first.items():
        if result != out:
            live = [each for each in live if last[each] >= index]
            starts[result] = _gap([(starts[each], sizes[each]) for each in live], sizes[result])
            live = sorted([*live, result], key=starts.__getitem__)
    return starts, max((starts[each] + sizes[each] for each in starts), default=0)


def _gap(taken: Iterable[tuple[int, int]], size: int) -> int:
    """Return the first place for so many bytes between (start, size), which come in order."""
    start = 0
    for other, length in taken:
        if start + size <= other:
            break
        start = other + length
    return start


def _results(words: Iterable[Word]) -> Iterator[int]:
    for word in words:
        if isinstance(word, Place):
            yield word.result
        elif isinstance(word, Block):
            yield from _results(inner for _, inner in word.pointers)
