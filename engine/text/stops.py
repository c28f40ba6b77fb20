"""The search for stop strings in text that comes in pieces."""

from collections.abc import Sequence


class StopMatcher:
    """A search for the first stop string in text that comes in pieces; no part of one gets out."""

    def __init__(self, stops: Sequence[str], include: bool = False) -> None:
        self.stops = tuple(stops)
        self._include = include
        self._held = ""
        self.matched: str | None = None

    def add(self, piece: str) -> str:
        """Return the text that is safe to show; nothing more once `matched` is set."""
        if self.matched is not None:
            return ""
        if not self.stops:
            return piece
        text = self._held + piece
        places = ((text.find(stop), -len(stop), stop) for stop in self.stops if stop in text)
        if (match := min(places, default=None)) is not None:
            at, _, self.matched = match
            self._held = ""
            return text[: at + len(self.matched) if self._include else at]
        keep = max(overlap(text, stop) for stop in self.stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """Return what was held back, when the answer ended otherwise."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """Count the last characters of `text` that could begin `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)
