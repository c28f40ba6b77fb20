"""The thoughts of an answer that marks where they begin and end, told from its text."""

from collections.abc import Callable, Mapping
from enum import Enum, auto

from ..request import Thought
from .specials import NONE, Specials, codes_in
from .stops import overlap

NEWLINES = "\r\n"
HELD = 1000  # characters of white space that may belong to a mark, so that none is dear to hold


class ThoughtState(Enum):
    START = auto()  # nothing but white space so far; a mark may come
    OPENED = auto()  # inside, at the newlines that follow the mark
    INSIDE = auto()
    CLOSED = auto()  # at the newlines that follow the closing mark, or the mark of the text
    BEGUN = auto()  # at the newlines that follow a mark of the text
    TEXT = auto()


PLACES = {"start": ThoughtState.START, "thought": ThoughtState.OPENED, "text": ThoughtState.TEXT}
Step = tuple[str, str, str]  # reasoning, text, and what is still to be told


class ThoughtSplitter:
    """A splitter of an answer into the thought that it may begin with, and text.

    A later mark is plain text, but of special tokens it opens another thought. Newlines beside a
    mark belong to it. What may still become a mark is held back. Worker and server hold one each:
    the one looks for stop strings where the other shows text.
    """

    def __init__(self, thought: Thought, specials: Specials = NONE) -> None:
        self._open, self._close, self._begin, self._end = map(specials.encode, thought.marks)
        self._again = bool(codes_in(self._open))
        self._ends = bool(self._end) and (not self._begin or thought.place == "text")
        self._state = PLACES[thought.place]
        self._held = ""
        self._steps: Mapping[ThoughtState, Callable[[str], Step]] = {
            ThoughtState.START: self._at_start,
            ThoughtState.OPENED: lambda text: self._skip_newlines(text, ThoughtState.INSIDE),
            ThoughtState.INSIDE: self._in_thought,
            ThoughtState.CLOSED: self._after_thought,
            ThoughtState.BEGUN: lambda text: self._skip_newlines(text, ThoughtState.TEXT),
            ThoughtState.TEXT: self._in_text,
        }

    @property
    def inside(self) -> bool:
        return self._state is ThoughtState.INSIDE or self._state is ThoughtState.OPENED

    @property
    def holds(self) -> bool:
        return bool(self._held)

    @property
    def settled(self) -> bool:
        text = self._state is ThoughtState.TEXT or self._state is ThoughtState.BEGUN
        return text and not self._again

    def feed(self, piece: str) -> tuple[str, str]:
        """Return the reasoning and the text, in this order, that are now certain."""
        if self._state is ThoughtState.TEXT and not (self._again or self._ends or self._held):
            return "", piece
        rest, reasoning, text = self._held + piece, "", ""
        state = None
        while rest and state is not self._state:
            state = self._state
            thought, shown, rest = self._steps[state](rest)
            reasoning += thought
            text += shown
        self._held = rest
        return reasoning, text

    def close(self) -> tuple[str, str]:
        """Return what was held back when the answer ended, as in `feed`.

        What begins with a special token was to be a mark, and nothing else.
        """
        held, self._held = self._held, ""
        if codes_in(held):
            return "", ""
        return (held, "") if self.inside else ("", held)

    def _at_start(self, text: str) -> Step:
        body = text.lstrip()
        if len(text) - len(body) > HELD:
            self._state = ThoughtState.TEXT
            return "", "", text
        if body.startswith(self._open):
            self._state = ThoughtState.OPENED
            return "", "", body[len(self._open) :]
        if self._begins(body):
            return "", "", body[len(self._begin) :]
        if not (self._open.startswith(body) or self._begin.startswith(body)):
            self._state = ThoughtState.TEXT
        return "", "", text

    def _begins(self, body: str) -> bool:
        """Return whether the mark of the text comes now; the mark of its end may come then."""
        if not self._begin or not body.startswith(self._begin):
            return False
        self._state, self._ends = ThoughtState.BEGUN, bool(self._end)
        return True

    def _skip_newlines(self, text: str, then: ThoughtState) -> Step:
        text = text.lstrip(NEWLINES)
        if text:
            self._state = then
        return "", "", text

    def _in_thought(self, text: str) -> Step:
        reasoning, mark, rest = text.partition(self._close)
        if mark:
            self._state = ThoughtState.CLOSED
            return reasoning, "", rest
        safe = len(text) - overlap(text, self._close)
        return text[:safe], "", text[safe:]

    def _after_thought(self, text: str) -> Step:
        body = text.lstrip(NEWLINES)
        if self._begins(body):
            return "", "", body[len(self._begin) :]
        if not self._begin.startswith(body):
            self._state = ThoughtState.TEXT
        return "", "", body

    def _in_text(self, text: str) -> Step:
        marks = [self._open] * self._again + [self._end] * self._ends
        found = min(((text.find(mark), mark) for mark in marks if mark in text), default=None)
        if found is None:
            safe = len(text) - max((overlap(text, mark) for mark in marks), default=0)
            if self._ends:
                safe = len(_trimmed(text[:safe]))
            return "", text[:safe], text[safe:]
        at, mark = found
        shown, rest = text[:at], text[at + len(mark) :]
        if mark == self._open:
            self._state = ThoughtState.OPENED
            return "", shown, rest
        self._state, self._ends = ThoughtState.BEGUN, False
        return "", _trimmed(shown) + codes_in(mark), rest


def _trimmed(text: str) -> str:
    """Return a text without the newlines that it ends in, as far as these are held back."""
    start = max(len(text) - HELD, 0)
    return text[:start] + text[start:].rstrip(NEWLINES)
