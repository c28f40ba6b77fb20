"""Values of JSON in which an answer turns in circles: they are closed, so that the rest can come.

A small model at temperature 0 writes the same digits into a string until its tokens are used up,
and what is left is no JSON. A schema without maxLength allows that. A string may well repeat
itself, as a row of zeros does: so it is closed only where it would otherwise be cut off, in the
last of the answer's tokens, or where no text that anybody asks for goes on as long.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

PERIOD = 32  # tokens of the longest circle
SHORT = 3 * PERIOD  # tokens of a string that repeat those before them, or of digits: in the end
LONG = 1024  # the same, wherever it is
LAST = 4  # the end is so small a part of an answer's tokens
QUOTE = b'"'


@dataclass(frozen=True, slots=True)
class Closers:
    """The tokens that close a string; those after a number; two that tell what a value is.

    Within a string a letter may come and a line may not; within a number no letter.
    """

    quote: int
    after: tuple[int, ...]
    letter: int
    line: int

    @classmethod
    def of(cls, encode: Callable[[str], list[int]]) -> "Closers | None":
        """Return those of a vocabulary; None where one of them is more than a token."""
        tokens = [*map(encode, ('"', ",", "}", "]", "a", "\n"))]
        if any(len(each) != 1 for each in tokens):
            return None
        (quote,), *after, (letter,), (line,) = tokens
        return cls(quote, tuple(token for (token,) in after), letter, line)


class Circle:
    """What the last tokens of one value repeat, in an answer of at most so many."""

    def __init__(
        self, closers: Closers, token_bytes: Callable[[int], bytes], max_tokens: int
    ) -> None:
        self._closers, self._token_bytes = closers, token_bytes
        self._until_end = max_tokens - max_tokens // LAST
        self._recent = np.full(PERIOD, -1)  # the latest first
        self._runs = np.zeros(PERIOD, int)  # of each period, how many tokens have repeated
        self._digits = 0

    def add(self, token: int) -> None:
        self._until_end -= 1
        raw = self._token_bytes(token)
        self._runs = (self._runs + 1) * (self._recent == token) * (QUOTE not in raw)
        self._recent[1:] = self._recent[:-1]
        self._recent[0] = token
        self._digits = self._digits + 1 if raw.isdigit() else 0

    def closing(self, allows: Callable[[int], bool]) -> tuple[int, ...]:
        """Return the tokens of which one is to come next; none where any may that is allowed."""
        closers, limit = self._closers, SHORT if self._until_end <= 0 else LONG
        if not allows(closers.letter):
            return tuple(filter(allows, closers.after)) if self._digits >= limit else ()
        string = allows(closers.quote) and not allows(closers.line)
        return (closers.quote,) if string and self._runs.max() >= limit else ()
