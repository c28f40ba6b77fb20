"""A vocabulary alone: what of a tokenizer turns tokens to text, in a twentieth of its memory."""

import json
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    import tokenizers

NO_DECODER = b"null"
# A tokenizer of which nothing but the decoder counts.
EMPTY = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}}


@dataclass(frozen=True, slots=True)
class Added:
    """A token that was added to a vocabulary, as tokenizers' AddedToken says it."""

    content: str
    special: bool


class VocabularyFile(Struct, frozen=True):
    """A vocabulary as it is sent: names by id, one after the other, each up to its place in `ends`.

    An id without a token has no name. `decoder` is the JSON of what joins names.
    """

    names: bytes
    ends: bytes  # four bytes each
    added: dict[int, bool]  # whether it is special
    decoder: bytes

    @classmethod
    def of(cls, encoding: "tokenizers.Tokenizer") -> "VocabularyFile":
        names = [encoding.id_to_token(token) or "" for token in range(encoding.get_vocab_size())]
        if not all(names):  # ids have holes, or a token has no name
            size = max(encoding.get_vocab().values(), default=-1) + 1
            names = [encoding.id_to_token(token) or "" for token in range(size)]
        spelled = [name.encode() for name in names]
        added, decoder = encoding.get_added_tokens_decoder(), encoding.decoder
        return cls(
            b"".join(spelled),
            array("I", accumulate(map(len, spelled))).tobytes(),
            {token: each.special for token, each in added.items()},
            NO_DECODER if decoder is None else decoder.__getstate__(),
        )


class Decoder:
    """What joins tokens' names; the library is loaded where it is first asked for."""

    def __init__(self, state: bytes) -> None:
        self._state = state

    def __getstate__(self) -> bytes:
        return self._state

    def decode(self, names: list[str]) -> str:
        return str(self._library.decode(names))

    @cached_property
    def _library(self) -> Any:
        from tokenizers import Tokenizer

        return Tokenizer.from_str(json.dumps(EMPTY | {"decoder": json.loads(self._state)})).decoder


class Vocabulary:
    """A vocabulary with those of tokenizers.Tokenizer's methods that decoding needs."""

    def __init__(self, file: VocabularyFile) -> None:
        self._file = file
        self._ends = memoryview(file.ends).cast("I")
        self.decoder = None if file.decoder == NO_DECODER else Decoder(file.decoder)

    def id_to_token(self, token: int) -> str | None:
        if not 0 <= token < len(self._ends):
            return None
        start = self._ends[token - 1] if token else 0
        return self._file.names[start : self._ends[token]].decode() or None

    def token_to_id(self, name: str) -> int | None:
        names, sought = self._file.names, name.encode()
        at = names.find(sought) if sought else -1
        while at >= 0:
            token = bisect_left(self._ends, at + len(sought))
            if self.id_to_token(token) == name:
                return token
            at = names.find(sought, at + 1)
        return None

    def get_added_tokens_decoder(self) -> dict[int, Added]:
        return {
            token: Added(self.id_to_token(token) or "", special)
            for token, special in self._file.added.items()
        }

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, of which special ones are left out."""
        shown = [token for token in tokens if not self._file.added.get(token)]
        names = [name for name in map(self.id_to_token, shown) if name is not None]
        return " ".join(names) if self.decoder is None else self.decoder.decode(names)
