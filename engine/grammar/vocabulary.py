"""A model's tokens as llguidance wants them: the bytes of each, and those of a forced text."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llguidance import LLTokenizer

    from ..text.tokenizer import Tokenizer

NEWLINE = b"\n"
SHORT = 64  # bytes, which are tokenized at once
KNOWN = 16  # longer texts whose tokens are kept


@dataclass(frozen=True, slots=True)
class _Known:
    """A text and its tokens; `places` has the number of the token that begins at each byte."""

    raw: bytes
    ids: list[int]
    places: Mapping[int, int]

    @classmethod
    def of(cls, raw: bytes, ids: list[int], token_bytes: Callable[[int], bytes]) -> "_Known":
        ends = accumulate((len(token_bytes(each)) for each in ids), initial=0)
        return cls(raw, ids, {end: index for index, end in enumerate(ends)})

    def rest(self, raw: bytes) -> list[int] | None:
        """Return the tokens of a text that this one ends in, if one of them begins it."""
        index = self.places.get(len(self.raw) - len(raw))
        return self.ids[index:] if index is not None and self.raw.endswith(raw) else None


class Vocabulary:
    """The tokens of a model with so many ids, and one more behind them: the end of a grammar.

    Which of the model's own tokens end an answer differs by request. The attributes are what
    llguidance asks of a tokenizer.
    """

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: "Tokenizer", size: int) -> None:
        self.eos_token_id = size
        self.special_token_ids = [*(i for i in sorted(tokenizer.special_names) if i < size), size]
        self._tokenizer = tokenizer
        self._known = deque[_Known](maxlen=KNOWN)
        self._greedy: Callable[[str], list[int]] = lambda _: []

    @property
    def tokens(self) -> Sequence[bytes]:
        """The bytes of each token, of special ones those of the name; they are not kept here."""
        size = self.eos_token_id
        return [*map(self._tokenizer.token_bytes, range(size)), b"end of the grammar"]

    def __call__(self, text: str) -> list[int]:
        """Return the tokens of a text inside an answer, none of them special.

        What is forced is asked for again after each token, so the rest of a text is known.
        """
        raw = text.encode()
        for known in tuple(self._known):  # the compiler's thread may add one
            if (rest := known.rest(raw)) is not None:
                return rest
        ids = self._ids(text, raw)
        if len(raw) > SHORT:
            self._known.appendleft(_Known.of(raw, ids, self._tokenizer.token_bytes))
        return ids

    def _ids(self, text: str, raw: bytes) -> list[int]:
        """Tokenize a text; where a tokenizer begins each with a blank, a line before it helps."""
        for before in (b"", NEWLINE):
            ids = self._tokenizer.encode((before + raw).decode(), special=False)
            spelled = [*map(self._tokenizer.token_bytes, ids)]
            start = spelled.index(before) + 1 if before in spelled else 0
            plain = b"".join(spelled[start:]) == raw and max(ids, default=0) < self.eos_token_id
            if plain and not self._tokenizer.special_names.keys() & ids:
                return ids[start:]
        return self._greedy(text)

    def build(self) -> "LLTokenizer":
        """Return llguidance's tokenizer, which takes a few tenths of a second."""
        from llguidance import LLTokenizer  # here: a model that is asked for no grammar needs none

        built = LLTokenizer(self, eos_token=self.eos_token_id)  # type: ignore[arg-type]
        self._greedy = built.greedy_tokenize
        return built
