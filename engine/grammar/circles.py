"""Values of JSON in which an answer turns in circles: they are closed, so that the rest can come.

A small model at temperature 0 writes the same digits into a string until its tokens are used up,
and what is left is no JSON. A schema without maxLength allows that. A string may well repeat
itself, as a row of zeros does: so it is closed only where it would otherwise be cut off, in the
last of the answer's tokens, or where no text that anybody asks for goes on as long.
"""

from collections.abc import Callable
from dataclasses import dataclass

PERIOD = 32  # tokens of the longest circle
SHORT = 3 * PERIOD  # tokens of a string that repeat those before them, or of digits: in the end
LONG = 1024  # the same, wherever it is
MOST = 4 * LONG  # tokens that are kept, to look for circles in
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
    """What the last tokens of one value repeat, in an answer of at most so many.

    `kind` says of a token whether it has a quote in it, and whether it is digits alone.
    """

    def __init__(
        self, closers: Closers, kind: Callable[[int], tuple[bool, bool]], max_tokens: int
    ) -> None:
        self._closers, self._kind = closers, kind
        self._until_end = max_tokens - max_tokens // LAST
        self._unquoted: list[int] = []  # the latest tokens, since one with a quote
        self._digits = 0

    def add(self, token: int) -> None:
        self._until_end -= 1
        has_quote, is_digits = self._kind(token)
        self._digits = self._digits + 1 if is_digits else 0
        if has_quote:
            self._unquoted.clear()
        else:
            self._unquoted.append(token)
            if len(self._unquoted) > MOST:
                del self._unquoted[: MOST // 2]

    def closing(self, allows: Callable[[int], bool]) -> tuple[int, ...]:
        """Return the tokens of which one is to come next; none where any may that is allowed."""
        closers, limit = self._closers, SHORT if self._until_end <= 0 else LONG
        repeats = self._repeats(limit)
        if not repeats and self._digits < limit:
            return ()
        if not allows(closers.letter):
            return tuple(filter(allows, closers.after)) if self._digits >= limit else ()
        string = allows(closers.quote) and not allows(closers.line)
        return (closers.quote,) if string and repeats else ()

    def _repeats(self, limit: int) -> bool:
        """Return whether so many tokens are each the same as one before, all as far from it."""
        tokens = self._unquoted
        if len(tokens) <= limit:
            return False
        last, latest = tokens[-1], tokens[-limit:]
        return any(
            last == tokens[-1 - period] and latest == tokens[-limit - period : -period]
            for period in range(1, PERIOD + 1)
        )


def kind_of(raw: bytes) -> tuple[bool, bool]:
    """Return whether a token has a quote in it, and whether it is digits alone."""
    return QUOTE in raw, raw.isdigit()
