"""The search for the names of control tokens in texts, whole or in halves."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from operator import itemgetter

NEVER = "(?!)"  # a pattern that nothing matches
PIECE = 2**16  # characters that are searched at once, for a search lets no other thread run


class ControlNames:
    """Names, as texts may hold them; one of a single character has no inside to put a guard in.

    A text that touches none of them cannot make one, alone or with what stands beside it; of
    `whole` ones halves are not looked for.
    """

    def __init__(self, names: Iterable[str], whole: Iterable[str] = ()) -> None:
        self._names = sorted({name for name in names if len(name) > 1})
        every = sorted({*self._names, *whole})
        tree = _tree(every) if every else NEVER
        self._name = re.compile(tree, re.DOTALL)
        self._beyond = max(map(len, every), default=0)  # of a piece, so that names there are whole
        self._longest = max(map(len, self._names), default=0)
        self._heads = {name[:end] for name in self._names for end in range(1, len(name))}
        self._tails = {name[start:] for name in self._names for start in range(1, len(name))}
        self._firsts = {name[0] for name in self._names}
        self._lasts = {name[-1] for name in self._names}
        self._insides = "\0".join(name[1:-1] for name in self._names)
        edges = {*self._lasts, *(name[0] for name in every if name)}
        self._edge = re.compile(f"[{re.escape(''.join(sorted(edges)))}]" if edges else NEVER)
        rests = "\0".join(name[1:] for name in every)
        heads = {name[:end] for name in every for end in range(1, len(name))}
        tails = {name[start:] for name in every for start in range(1, len(name))}
        self._overlap = not heads.isdisjoint(tails) or any(name in rests for name in every)

    def touched(self, text: str) -> bool:
        """Return whether a name is in the text, or half of one at either of its ends."""
        if self._clear(text):
            return False
        name = next(self._matches(text), None)
        return name is not None or next(self._ends(text), None) is not None

    def inside(self, text: str) -> bool:
        """Return whether a name has this text inside, so that what is around may make it whole."""
        body = text.strip()
        return 0 < len(body) < self._longest and body in self._insides

    def count(self, text: str) -> int:
        """Count all places where a name begins."""
        return sum(1 for _ in self._matches(text, overlapping=True))

    def spans(self, text: str, start: int) -> list[tuple[int, int]]:
        """Return where names begin and end, from `start` on, none inside another."""
        return [match.span() for match in self._matches(text, start)]

    def guarded(self, text: str, guard: str) -> str:
        """Put the guard into each name, after its first character, and at ends that are halves."""
        if self._clear(text):
            return text
        cuts = [match.start() + 1 for match in self._matches(text, overlapping=True)]
        text = guard.join(text[start:end] for start, end in pairwise((0, *cuts, len(text))))
        for at in sorted(set(self._ends(text)), reverse=True):
            text = f"{text[:at]}{guard}{text[at:]}"
        return text

    def _clear(self, text: str) -> bool:
        """Return whether a text has no character of a name's ends, as most, at a glance."""
        return len(text) <= PIECE and self._edge.search(text) is None

    def _matches(
        self, text: str, start: int = 0, overlapping: bool = False
    ) -> Iterator[re.Match[str]]:
        """Yield the names in a text, none inside another unless they may be `overlapping`."""
        search = self._overlapping if overlapping and self._overlap else self._name.finditer
        for end in range(start + PIECE, len(text) + PIECE, PIECE):
            for match in search(text, start, end + self._beyond):
                if match.start() >= end:
                    break
                yield match
                start = match.end()
            start = end if overlapping else max(start, end)

    def _overlapping(self, text: str, start: int, end: int) -> Iterator[re.Match[str]]:
        while match := self._name.search(text, start, end):
            yield match
            start = match.start() + 1

    def _ends(self, text: str) -> Iterator[int]:
        """Yield where halves begin and end; templates may trim white space, so with and without."""
        for at in {0, len(text) - len(text.lstrip())}:
            start = text[at : at + self._longest]
            if not self._lasts.isdisjoint(start) and _any(start, self._tails, forwards=True):
                yield at
        for at in {len(text), len(text.rstrip())}:
            end = text[max(at - self._longest, 0) : at]
            if not self._firsts.isdisjoint(end) and _any(end, self._heads, forwards=False):
                yield at


def without(text: str, guard: str) -> str:
    """Return a text without its guards."""
    pieces = (text[at : at + PIECE] for at in range(0, len(text), PIECE))
    return "".join(piece.replace(guard, "") for piece in pieces)


def common_length(one: str, other: str) -> int:
    """Count the first characters that two texts have in common, by halves."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _any(text: str, halves: set[str], forwards: bool) -> bool:
    sizes = range(1, len(text) + 1)
    return any((text[:size] if forwards else text[-size:]) in halves for size in sizes)


def _tree(names: Sequence[str]) -> str:
    """Return a pattern of sorted names, the longest first, that compares a character once."""
    head = names[0][: common_length(names[0], names[-1])]
    rests = [name[len(head) :] for name in names]
    branches = [_tree([*group]) for _, group in groupby(filter(None, rests), itemgetter(0))]
    if not branches:
        return re.escape(head)
    return f"{re.escape(head)}(?:{'|'.join(branches)}){'' if rests[0] else '?'}"
