"""The text of a growing answer: whole characters, thoughts apart, up to the first stop string."""

import codecs
from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol

import tokenizers

from .request import Thought

REPLACEMENT = "\ufffd"
NEWLINES = "\r\n"


class Detokenizer(Protocol):
    """The text of a growing answer, in pieces that end on whole characters."""

    def add(self, token: int) -> str: ...

    def flush(self) -> str: ...


class ByteDetokenizer:
    """A detokenizer of byte-level vocabularies: an incremental UTF-8 decoder of tokens' bytes."""

    def __init__(self, table: Sequence[bytes]) -> None:
        self._table = table
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        raw = self._table[token] if token < len(self._table) else b""
        return self._decoder.decode(raw)

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class WindowDetokenizer:
    """A detokenizer of any other vocabulary, which decodes a short window of tokens twice.

    What the newest token adds is the difference with and without it; a window that ends in the
    replacement character may be half a character, so it waits for the next token.
    """

    def __init__(self, encoding: tokenizers.Tokenizer) -> None:
        self._encoding = encoding
        self._window: list[int] = []
        self._shown = 0  # tokens of the window whose text is out

    def add(self, token: int) -> str:
        self._window.append(token)
        return self._advance(final=False)

    def flush(self) -> str:
        return self._advance(final=True)

    def _advance(self, final: bool) -> str:
        before = self._encoding.decode(self._window[: self._shown])
        text = self._encoding.decode(self._window)
        if len(text) <= len(before) or (text.endswith(REPLACEMENT) and not final):
            return ""
        self._window = self._window[self._shown :]
        self._shown = len(self._window)
        return text[len(before) :]


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
        keep = max(_overlap(text, stop) for stop in self.stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """Return what was held back, when the answer ended otherwise."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Count the last characters of `text` that could begin `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)


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
        safe = len(text) - _overlap(text, self._close)
        self._held = text[safe:]
        return text[:safe], ""


class AnswerText:
    """An answer's text in the worker, token by token: no token is generated past a stop string.

    Stop strings count from the token number `min_tokens` on, and only in what is no thought.
    """

    def __init__(
        self,
        detokenizer: Detokenizer,
        stops: StopMatcher,
        min_tokens: int = 0,
        thought: Thought | None = None,
    ) -> None:
        self._detokenizer = detokenizer
        self._stops = stops
        self._exempt = min_tokens - 1  # tokens to come that no stop string may end
        self._splitter = None if thought is None else ThoughtSplitter(thought)

    @property
    def stop(self) -> str | None:
        return self._stops.matched

    def add(self, token: int) -> None:
        self._exempt -= 1
        piece = self._detokenizer.add(token)
        if self._splitter is not None:
            _, piece = self._splitter.feed(piece)
        if self._exempt < 0:
            self._stops.add(piece)
