"""The search for stop strings in text that comes in pieces."""

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache

from .specials import NONE, Specials

KEPT = 16  # sets of stop strings whose automata are kept: those of a request's choices come at once
Match = tuple[int, int, str]  # where it begins; less its length; the stop string


class StopAutomaton:
    """The automaton of Aho and Corasick: in one pass it finds all of the strings that it seeks.

    A state is how much of a string the text ends in. It steps in constant time on average, and
    has a state for each character of the strings at most. `sought` has the stop string of each.
    """

    def __init__(self, sought: Mapping[str, str]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._fallback = [0]  # by state: that of the longest shorter end of the text
        self.depths = [0]  # by state: how many of the text's last characters it stands for
        self.found: list[tuple[int, str] | None] = [None]  # the longest that ends there
        for text, stop in sought.items():
            self._add(text, stop)
        self._link()

    def step(self, state: int, character: str) -> int:
        while state and character not in self._next[state]:
            state = self._fallback[state]
        return self._next[state].get(character, 0)

    def _add(self, text: str, stop: str) -> None:
        state = 0
        for depth, character in enumerate(text, 1):
            if character not in self._next[state]:
                self._next[state][character] = len(self._next)
                self._next.append({})
                self._fallback.append(0)
                self.depths.append(depth)
                self.found.append(None)
            state = self._next[state][character]
        self.found[state] = len(text), stop

    def _link(self) -> None:
        """Set where states fall back to, the shortest first."""
        waiting = deque(self._next[0].values())
        while waiting:
            state = waiting.popleft()
            for character, child in self._next[state].items():
                self._fallback[child] = self.step(self._fallback[state], character)
                waiting.append(child)
            self.found[state] = self.found[state] or self.found[self._fallback[state]]


class StopSearch:
    """A search with one automaton in a text that has characters to `skip`, as if they were not."""

    def __init__(self, automaton: StopAutomaton, skip: frozenset[str]) -> None:
        self._automaton, self._skip = automaton, skip
        self._state = 0
        self._seen = 0  # characters that were not skipped
        self._skipped: list[int] = []  # by skipped character: those before it that were not

    @property
    def start(self) -> int:
        """The place in the text where a string that is not yet whole may begin."""
        return self._place(self._seen - self._automaton.depths[self._state])

    def add(self, piece: str) -> Match | None:
        """Return the first of the strings that end in this piece, the longest of those."""
        automaton, best = self._automaton, None
        for character in piece:
            if character in self._skip:
                self._skipped.append(self._seen)
                continue
            self._seen += 1
            self._state = automaton.step(self._state, character)
            if (found := automaton.found[self._state]) is not None:
                length, stop = found
                match = self._place(self._seen - length), -len(stop), stop
                best = match if best is None else min(best, match)
        return best

    def restart(self) -> None:
        self._state = 0

    def _place(self, seen: int) -> int:
        return seen + bisect_right(self._skipped, seen)


class StopMatcher:
    """A search for the first stop string in text that comes in pieces; no part of one gets out.

    A stop string may name special tokens, which the text holds as codes (`specials`), or spells.
    A code is nothing to the reader: a stop string that does not name it is found across it.
    """

    def __init__(
        self, stops: Sequence[str], include: bool = False, specials: Specials = NONE
    ) -> None:
        self.stops = tuple(stops)
        self._include = include
        codes = frozenset(specials.codes.values())
        sought = tuple((s, stop) for stop in self.stops for s in {stop, specials.encode(stop)})
        self._searches = [StopSearch(*each) for each in _automata(sought, codes)]
        self._held = ""
        self._shown = 0  # characters that went out
        self.matched: str | None = None

    def add(self, piece: str) -> str:
        """Return the text that is safe to show; nothing more once `matched` is set."""
        if self.matched is not None:
            return ""
        if not self.stops:
            return piece
        text, self._held = self._held + piece, ""
        found = [match for search in self._searches if (match := search.add(piece)) is not None]
        if found:
            place, _, self.matched = min(found)
            safe = text[: place - self._shown]
            return safe + self.matched if self._include else safe
        safe = text[: min(search.start for search in self._searches) - self._shown]
        self._held = text[len(safe) :]
        self._shown += len(safe)
        return safe

    def flush(self) -> str:
        """Return what was held back, when the answer ended otherwise."""
        held, self._held = self._held, ""
        self._shown += len(held)
        for search in self._searches:
            search.restart()
        return held


@lru_cache(KEPT)
def _automata(
    sought: tuple[tuple[str, str], ...], codes: frozenset[str]
) -> Sequence[tuple[StopAutomaton, frozenset[str]]]:
    """Return automata, each of the strings that name the same codes, and what they skip."""
    groups: dict[frozenset[str], dict[str, str]] = {}
    for text, stop in sought:
        groups.setdefault(codes.intersection(text), {})[text] = stop
    return [(StopAutomaton(texts), codes - named) for named, texts in groups.items()]


def overlap(text: str, mark: str) -> int:
    """Count the last characters of `text` that could begin a mark, which is short."""
    longest = min(len(text), len(mark) - 1)
    return next((n for n in range(longest, 0, -1) if mark.startswith(text[-n:])), 0)
