"""The search for stop strings in text that comes in pieces."""

import re
from collections.abc import Sequence

from .specials import NONE, Specials


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
        self._sought = [(stop, s) for stop in stops for s in {stop, specials.encode(stop)}]
        self._codes = frozenset(specials.codes.values())
        self._held = ""
        self.matched: str | None = None

    def add(self, piece: str) -> str:
        """Return the text that is safe to show; nothing more once `matched` is set."""
        if self.matched is not None:
            return ""
        if not self.stops:
            return piece
        text = self._held + piece
        find = self._find if self._codes.isdisjoint(text) else self._find_across
        places = ((at, -len(stop), stop) for stop, s in self._sought if (at := find(text, s)) >= 0)
        if (match := min(places, default=None)) is not None:
            at, _, self.matched = match
            self._held = ""
            return text[:at] + self.matched if self._include else text[:at]
        keep = max(self._overlap(text, sought) for _, sought in self._sought)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """Return what was held back, when the answer ended otherwise."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _find(text: str, sought: str) -> int:
        return text.find(sought)

    def _find_across(self, text: str, sought: str) -> int:
        gap = f"[{''.join(self._codes)}]*"
        match = re.search(gap.join(map(re.escape, sought)), text)
        return -1 if match is None else match.start()

    def _overlap(self, text: str, sought: str) -> int:
        """Count the last characters of `text` that could begin `sought`, with codes among them."""
        unseen = self._codes.difference(sought)
        if unseen.isdisjoint(text):
            return overlap(text, sought)
        places = [at for at, character in enumerate(text) if character not in unseen]
        count = overlap("".join(text[at] for at in places), sought)
        return len(text) - places[-count] if count else 0


def overlap(text: str, stop: str) -> int:
    """Count the last characters of `text` that could begin `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)
