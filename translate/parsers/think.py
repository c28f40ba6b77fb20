"""Splits an answer that comes in pieces into its reasoning and its text."""

from enum import Enum, auto

OPEN, CLOSE = "<think>", "</think>"
NEWLINES = "\r\n"


class State(Enum):
    START = auto()  # nothing but white space so far; a tag may come
    OPENED = auto()  # inside, at the newlines that follow the tag
    INSIDE = auto()
    CLOSED = auto()  # at the newlines that follow the closing tag
    TEXT = auto()


class ThinkSplitter:
    """Only a block at the very start is reasoning; later tags are plain text.

    Newlines right after either tag belong to the tag. What may still become a tag is held back.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._held = ""

    @property
    def inside(self) -> bool:
        return self._state in (State.OPENED, State.INSIDE)

    def feed(self, piece: str) -> tuple[str, str]:
        """The reasoning and the text, in this order, that are now certain."""
        if self._state is State.TEXT:
            return "", piece
        text = self._held + piece
        self._held = ""
        if self._state is State.START:
            text = self._start(text)
        if self._state is State.OPENED:
            text = self._skip_newlines(text, State.INSIDE)
        reasoning = ""
        if self._state is State.INSIDE:
            reasoning, text = self._inside(text)
        if self._state is State.CLOSED:
            text = self._skip_newlines(text, State.TEXT)
        return reasoning, text

    def close(self) -> tuple[str, str]:
        """What was held back when the answer ended."""
        held, self._held = self._held, ""
        return (held, "") if self.inside else ("", held)

    def _start(self, text: str) -> str:
        body = text.lstrip()
        if body.startswith(OPEN):
            self._state = State.OPENED
            return body[len(OPEN) :]
        if OPEN.startswith(body):
            self._held = text
            return ""
        self._state = State.TEXT
        return text

    def _skip_newlines(self, text: str, then: State) -> str:
        text = text.lstrip(NEWLINES)
        if text:
            self._state = then
        return text

    def _inside(self, text: str) -> tuple[str, str]:
        reasoning, tag, rest = text.partition(CLOSE)
        if tag:
            self._state = State.CLOSED
            return reasoning, rest
        kept = len(text) - _partial_tag(text)
        self._held = text[kept:]
        return text[:kept], ""


def _partial_tag(text: str) -> int:
    """How many characters at the end of the text may be the beginning of a closing tag."""
    start = text.rfind("<", -len(CLOSE) + 1)
    return len(text) - start if start >= 0 and CLOSE.startswith(text[start:]) else 0
