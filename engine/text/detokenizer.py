"""Detokenizers: the tokens of a growing answer to text, in whole characters."""

import codecs
from collections.abc import Sequence
from typing import Protocol

import tokenizers

REPLACEMENT = "\ufffd"


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
