"""Larger pieces of a stream: what several tokens brought goes out together."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from .chat import ArgumentsDelta, Event, ReasoningDelta, TextDelta


class Chunks:
    """The events of one choice, held back until there are `size` tokens, or its end."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._count = 0  # of the tokens that are held back
        self._held: list[Event] = []

    def take(self, events: Iterable[Event], tokens: int, over: bool) -> list[Event]:
        """Return what is due after more tokens, and what came of them; all of it at the end."""
        self._held += events
        self._count += tokens
        if self._count < self._size and not over:
            return []
        held, self._held, self._count = self._held, [], 0
        return [*joined(held)]


def joined(events: Iterable[Event]) -> Iterator[Event]:
    """Yield events with deltas of the same kind in a row made one."""
    for (kind, index), group in groupby(events, _kind):
        if kind is TextDelta or kind is ReasoningDelta:
            yield _text(group)
        elif kind is ArgumentsDelta:
            pieces = [each for each in group if isinstance(each, ArgumentsDelta)]
            text = "".join(each.text for each in pieces)
            yield ArgumentsDelta(pieces[0].choice, index, text)
        else:
            yield from group


def _text(group: Iterable[Event]) -> TextDelta | ReasoningDelta:
    pieces = [each for each in group if isinstance(each, TextDelta | ReasoningDelta)]
    text = "".join(each.text for each in pieces)
    tokens = tuple(token for each in pieces for token in each.tokens)
    return type(pieces[0])(pieces[0].choice, text, tokens)


def _kind(event: Event) -> tuple[type[Event], int]:
    return type(event), event.index if isinstance(event, ArgumentsDelta) else 0
