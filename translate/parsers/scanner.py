"""A text that comes in pieces, read by generators: each `yield` waits for the next piece."""

import re
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from ...engine.text.stops import overlap

Result = TypeVar("Result")
Reading = Generator[None, None, Result]  # it goes on when there is more text
Out = Callable[[str], None]  # where a reading's result goes, piece by piece

LONGEST_NAME = 256  # characters of a name or a number; what goes on is neither
SPACE = re.compile(r"\s*")
NOT_JSON_SPACE = re.compile(r"[^ \t\r\n]")


class Broken(Exception):
    """The text is not, or not yet at its end, what it began as."""


class Scanner:
    """The text that is to be read, and what has been read of it since the last `mark`."""

    def __init__(self) -> None:
        self.text, self.at = "", 0
        self.ended = False  # no more text comes
        self._read: list[str] = []

    def feed(self, piece: str) -> None:
        self._read.append(self.text[: self.at])
        self.text, self.at = self.text[self.at :] + piece, 0

    def mark(self) -> None:
        """Begin what may have to be given back; what comes next is its first character."""
        self._read.clear()
        self.text, self.at = self.text[self.at :], 0

    def since_mark(self) -> str:
        return "".join(self._read) + self.text[: self.at]

    def more(self) -> Reading[None]:
        """Wait for more text. Raises Broken where none comes."""
        if self.ended:
            raise Broken
        yield

    def peek(self) -> Reading[str]:
        """Return the next character, which is not read yet."""
        while self.at >= len(self.text):
            yield from self.more()
        return self.text[self.at]

    def peek_or_end(self) -> Reading[str]:
        """Return the next character, or nothing where the text ends."""
        while self.at >= len(self.text) and not self.ended:
            yield
        return self.text[self.at : self.at + 1]

    def skip_space(self, out: Out | None = None) -> Reading[None]:
        """Read white space, up to the end at most; with `out` it is JSON's, and not lost."""
        while True:
            match = SPACE.match(self.text, self.at)
            assert match is not None
            if out is not None and match[0]:
                out(NOT_JSON_SPACE.sub(" ", match[0]))
            self.at = match.end()
            if self.at < len(self.text) or self.ended:
                return
            yield

    def take(self, *marks: str) -> Reading[str]:
        """Read the first of the marks with which the text goes on; return it, or nothing.

        Of marks that begin alike the longest is to stand first.
        """
        while True:
            for mark in marks:
                if self.text.startswith(mark, self.at):
                    self.at += len(mark)
                    return mark
                if self._may_become(mark):
                    break
            else:
                return ""
            yield

    def ahead(self, *marks: str) -> Reading[str]:
        """Return the first of the marks with which the text goes on, which is not read yet."""
        found = yield from self.take(*marks)
        self.at -= len(found)
        return found

    def _may_become(self, mark: str) -> bool:
        left = len(self.text) - self.at
        return left < len(mark) and not self.ended and mark.startswith(self.text[self.at :])

    def expect(self, *marks: str) -> Reading[str]:
        """Read one of the marks. Raises Broken where the text goes on otherwise."""
        found = yield from self.take(*marks)
        if not found:
            raise Broken
        return found

    def match(self, pattern: re.Pattern[str]) -> Reading[re.Match[str]]:
        """Read what a pattern of one-character steps matches, up to a character that it does not.

        Raises Broken where that is nothing, or longer than a name.
        """
        while True:
            match = pattern.match(self.text, self.at)
            if match is None:
                yield from self.peek()
                match = pattern.match(self.text, self.at)
            if match is None or match.end() - self.at > LONGEST_NAME:
                raise Broken
            if match.end() < len(self.text):
                self.at = match.end()
                return match
            yield from self.more()

    def until(self, marks: Sequence[str], out: Out) -> Reading[str]:
        """Read up to the first of the marks, which is read too and returned."""
        while True:
            found = [(at, mark) for mark in marks if (at := self.text.find(mark, self.at)) >= 0]
            if found:
                at, mark = min(found, key=lambda each: (each[0], -len(each[1])))
                out(self.text[self.at : at])
                self.at = at + len(mark)
                return mark
            rest = self.text[self.at :]
            safe = len(rest) - max(overlap(rest, mark) for mark in marks)
            out(rest[:safe])
            self.at += safe
            yield from self.more()

    def until_short(self, *marks: str) -> Reading[tuple[str, str]]:
        """Return what stands before the first of the marks, if it is short, and the mark."""
        pieces: list[str] = []

        def add(piece: str) -> None:
            pieces.append(piece)
            if sum(map(len, pieces)) > LONGEST_NAME:
                raise Broken

        found = yield from self.until(marks, add)
        return "".join(pieces), found
