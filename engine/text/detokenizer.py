"""Detokenizers: the tokens of a growing answer to text, in whole characters."""

import codecs
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from .specials import Specials

if TYPE_CHECKING:
    import tokenizers

REPLACEMENT = "\ufffd"
LONGEST = 4  # bytes of a character, so tokens that may have to wait for a whole one


class Detokenizer(Protocol):
    """The text of a growing answer, in pieces that end on whole characters.

    `whole`: no part of a character is held back.
    """

    @property
    def whole(self) -> bool: ...

    def add(self, token: int) -> str: ...

    def flush(self) -> str: ...


class ByteDetokenizer:
    """A detokenizer of byte-level vocabularies: an incremental UTF-8 decoder of tokens' bytes.

    `table` has those of every id, none of one without a token.
    """

    def __init__(self, table: Mapping[int, bytes]) -> None:
        self._table = table
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def whole(self) -> bool:
        return not self._decoder.getstate()[0]

    def add(self, token: int) -> str:
        return self._decoder.decode(self._table[token])

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class WindowDetokenizer:
    """A detokenizer of any other vocabulary, which decodes a short window of tokens twice.

    What the newest token adds is the difference with and without it; a window that ends in the
    replacement character may be half a character, so it waits for the next tokens, a few at most.
    Tokens that stand for one of the `fallback` bytes are decoded as those.
    """

    def __init__(
        self, encoding: "tokenizers.Tokenizer", fallback: Mapping[int, bytes] | None = None
    ) -> None:
        self._encoding = encoding
        self._fallback = fallback or {}
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._window: list[int] = []
        self._shown = 0  # tokens of the window whose text is out

    @property
    def whole(self) -> bool:
        return self._shown == len(self._window) and not self._decoder.getstate()[0]

    def add(self, token: int) -> str:
        if (byte := self._fallback.get(token)) is not None:
            held = self._advance(final=True)
            self._window, self._shown = [token], 1
            return held + self._decoder.decode(byte)
        self._window.append(token)
        waits = len(self._window) - self._shown < LONGEST
        piece = self._advance(final=not waits)
        return self._decoder.decode(b"", final=True) + piece if piece else ""

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True) + self._advance(final=True)

    def _advance(self, final: bool) -> str:
        if self._shown == len(self._window):
            return ""
        before = self._encoding.decode(self._window[: self._shown])
        text = self._encoding.decode(self._window)
        if text == before != "":  # the newest tokens add nothing, as unknown ids do
            del self._window[self._shown :]
            return ""
        if not final and (len(text) <= len(before) or text.endswith(REPLACEMENT)):
            return ""
        self._window = self._window[self._shown :]
        self._shown = len(self._window)
        return text[len(before) :]


class AnswerDetokenizer:
    """A detokenizer that shows special tokens as an answer holds them, and no hidden tokens.

    A special token that is something in the text ends the character before it.
    """

    def __init__(self, detokenizer: Detokenizer, specials: Specials) -> None:
        self._detokenizer = detokenizer
        self._specials = specials

    @property
    def whole(self) -> bool:
        return self._detokenizer.whole

    def add(self, token: int, hidden: bool = False) -> str:
        special = self._specials.text(token, hidden)
        if special is None:
            return "" if hidden else self._detokenizer.add(token)
        return self._detokenizer.flush() + special if special else ""

    def flush(self) -> str:
        return self._detokenizer.flush()
