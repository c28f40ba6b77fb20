"""The thought that an answer may begin with, told from its text."""

from enum import Enum, auto

from ..request import Thought
from .stops import overlap

NEWLINES = "\r\n"


class ThoughtState(Enum):
    START = auto()  # nothing but white space so far; a mark may come
    OPENED = auto()  # inside, at the newlines that follow the mark
    INSIDE = auto()
    CLOSED = auto()  # at the newlines that follow the closing mark
    TEXT = auto()


class ThoughtSplitter:
    """A splitter of an answer into the thought that it may begin with, and text.

    Later marks are plain text. Newlines right after either mark belong to the mark. What may still
    become a mark is held back. Worker and server hold one each: the one looks for stop strings
    where the other shows text.
    """

    def __init__(self, thought: Thought) -> None:
        self._open, self._close = thought.open, thought.close
        self._state = ThoughtState.OPENED if thought.opened else ThoughtState.START
        self._held = ""

    @property
    def inside(self) -> bool:
        return self._state is ThoughtState.INSIDE or self._state is ThoughtState.OPENED

    def feed(self, piece: str) -> tuple[str, str]:
        """Return the reasoning and the text, in this order, that are now certain."""
        if self._state is ThoughtState.TEXT:
            return "", piece
        text = self._held + piece
        self._held = ""
        if self._state is ThoughtState.START:
            text = self._start(text)
        if self._state is ThoughtState.OPENED:
            text = self._skip_newlines(text, ThoughtState.INSIDE)
        reasoning = ""
        if self._state is ThoughtState.INSIDE:
            reasoning, text = self._inside(text)
        if self._state is ThoughtState.CLOSED:
            text = self._skip_newlines(text, ThoughtState.TEXT)
        return reasoning, text

    def close(self) -> tuple[str, str]:
        """Return what was held back when the answer ended, as in `feed`."""
        held, self._held = self._held, ""
        return (held, "") if self.inside else ("", held)

    def _start(self, text: str) -> str:
        body = text.lstrip()
        if body.startswith(self._open):
            self._state = ThoughtState.OPENED
            return body[len(self._open) :]
        if self._open.startswith(body):
            self._held = text
            return ""
        self._state = ThoughtState.TEXT
        return text

    def _skip_newlines(self, text: str, then: ThoughtState) -> str:
        text = text.lstrip(NEWLINES)
        if text:
            self._state = then
        return text

    def _inside(self, text: str) -> tuple[str, str]:
        reasoning, mark, rest = text.partition(self._close)
        if mark:
            self._state = ThoughtState.CLOSED
            return reasoning, rest
        safe = len(text) - overlap(text, self._close)
        self._held = text[safe:]
        return text[:safe], ""
