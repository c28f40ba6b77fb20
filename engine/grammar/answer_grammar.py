"""The place of one answer in its grammar: what may come next, and whether it is over."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ..request import Refusal
from ..token_rules import BITS
from .circles import Circle

if TYPE_CHECKING:
    from llguidance import LLMatcher


class AnswerGrammar:
    """A grammar that follows an answer, token by token.

    `end` is the id of llguidance's that stands for the end of the grammar, after all of the
    model's; `ends` are the tokens that may come there. `field` of the request asked for it.
    With a `circle` its values are closed where they turn in one.
    """

    def __init__(
        self,
        matcher: "LLMatcher",
        end: int,
        ends: Iterable[int],
        field: str,
        circle: Circle | None = None,
    ) -> None:
        self._matcher = matcher
        self._field = field
        self._circle = circle
        self._bits = np.zeros(end // BITS + 1, np.uint32)
        self._words = self._bits.data  # the same, quicker to look at one by one
        self._target = self._bits.ctypes.data, self._bits.nbytes
        self._end = _place(end)
        self._ends = [_place(token) for token in ends if token < end]

    @property
    def is_over(self) -> bool:
        """Return whether nothing more can come, and what has come is whole."""
        return bool(self._matcher.is_stopped()) and self.is_whole

    @property
    def is_whole(self) -> bool:
        """Return whether what has come may stand by itself."""
        return bool(self._matcher.is_accepting())

    @property
    def refusal(self) -> Refusal | None:
        """Why the answer could not go on, where the grammar is to blame."""
        if not self._matcher.is_error():
            return None
        message = f"{self._field} became too complex to follow; make it simpler."
        return Refusal(400, "grammar_too_complex", message, self._field)

    def mask(self, size: int) -> np.ndarray:
        """Return the bits of the ids that may come next, of so many; none after an error."""
        words, (word, bit) = self._words, self._end
        self._matcher.unsafe_compute_mask_ptr(*self._target)
        if words[word] & bit:
            words[word] ^= bit
            if self.is_whole:
                for place, each in self._ends:
                    words[place] |= each
        if self._circle is not None and (closing := self._circle.closing(self._allows)):
            self._bits[:] = 0
            for place, each in map(_place, closing):
                words[place] |= each
        return self._bits[: -(-size // BITS)]

    def forced(self) -> list[int]:
        """Return the tokens that have to come next, as the model would have drawn them."""
        return list(self._matcher.compute_ff_tokens())

    def add(self, token: int) -> None:
        """Follow a token that the mask allows and that does not end the answer."""
        self._matcher.consume_token(token)
        if self._circle is not None:
            self._circle.add(token)

    def _allows(self, token: int) -> bool:
        word, bit = _place(token)
        return bool(self._words[word] & bit)


def _place(token: int) -> tuple[int, int]:
    """Return the word of a mask and the bit in it that are a token's."""
    return token // BITS, 1 << token % BITS
