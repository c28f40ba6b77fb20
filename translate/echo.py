"""The echo of a prompt in the pieces that its tokens stand for."""

import re
from collections.abc import Mapping

from ..engine.text.detokenizer import AnswerDetokenizer, Detokenizer
from ..engine.text.specials import Specials
from .chat import TextDelta, TokenText

SPACE = re.compile("[\\s\u2581]")  # what SentencePiece may take for a space


class Echo:
    """A prompt's text, given out with its tokens one by one until all of it is out.

    A special token is a piece of the text where the text has its name, and a space is one where
    the text has it: SentencePiece puts one after a special token.
    """

    def __init__(
        self,
        choice: int,
        text: str,
        tokens: int,
        detokenizer: Detokenizer,
        names: Mapping[int, str],
    ) -> None:
        self._choice = choice
        self._text = text
        self._left = tokens
        self._names = names
        self._detokenizer = AnswerDetokenizer(detokenizer, Specials(names, shown=True))
        self._position = 0

    def add(self, token: int, shown: TokenText) -> TextDelta:
        """Return the piece of the next token, `shown` with its log probability."""
        start = self._position
        self._left -= 1
        piece = self._detokenizer.add(token)
        if piece.startswith(" ") and not SPACE.match(self._text, start):
            piece = piece[1:]
        if token not in self._names or self._text.startswith(piece, start):
            self._position = min(start + len(piece), len(self._text))
        if not self._left:
            self._position = len(self._text)
        placed = TokenText(shown.text, shown.raw, shown.logprob, shown.top, start)
        return TextDelta(self._choice, self._text[start : self._position], (placed,))
