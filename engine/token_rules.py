"""Rules for the tokens that may come next, a checkpoint's or a request's, by the tokens so far."""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

BANNED = -np.inf
BITS = 32  # of a word of a mask


@dataclass(frozen=True, slots=True)
class GenerationRules:
    """A checkpoint's own rules for tokens, by their names in generation_config.json.

    They mean what transformers makes of them for decoders. `sequence_bias` has bad words too.
    """

    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()
    sequence_bias: Mapping[tuple[int, ...], float] = field(default_factory=dict)
    no_repeat_ngram_size: int = 0
    forced_bos_token_id: tuple[int, ...] = ()  # after a single token
    forced_eos_token_id: tuple[int, ...] = ()  # as the last that there is room for


NO_RULES = GenerationRules()


class SequenceBias:
    """Biases of the ids that would complete a sequence of ids.

    They are found by the ids before the last: one look-up for each length that sequences have.
    """

    def __init__(self, biases: Mapping[tuple[int, ...], float]) -> None:
        self.single = {ids[0]: bias for ids, bias in biases.items() if len(ids) == 1}
        self._after: dict[bytes, dict[int, float]] = defaultdict(dict)
        longer = [ids for ids in biases if len(ids) > 1]
        for ids in longer:
            self._after[array("I", ids[:-1]).tobytes()][ids[-1]] = biases[ids]
        self._lengths = sorted({len(ids) - 1 for ids in longer})

    def __bool__(self) -> bool:
        return bool(self._lengths)

    def after(self, tokens: "array[int]") -> dict[int, float]:
        """Return the biases of the next token's ids, but for those of single ids."""
        biases: dict[int, float] = {}
        for length in self._lengths:
            if length <= len(tokens):
                for token, bias in self._after.get(tokens[-length:].tobytes(), {}).items():
                    biases[token] = biases.get(token, 0.0) + bias
        return biases


class Ngrams:
    """The ids that would repeat `size` ids in a row; it looks at each token once."""

    def __init__(self, size: int) -> None:
        self._before = size - 1
        self._after: dict[bytes, set[int]] = defaultdict(set)
        self._followed = 0

    def after(self, tokens: "array[int]") -> Iterable[int]:
        """Return the ids that have followed the last ones before; `tokens` only grow."""
        before = self._before
        for at in range(max(self._followed, before), len(tokens)):
            self._after[tokens[at - before : at].tobytes()].add(tokens[at])
        self._followed = len(tokens)
        return self._after.get(tokens[max(len(tokens) - before, 0) :].tobytes(), ())


def bad_words(words: Iterable[Iterable[int]]) -> dict[tuple[int, ...], float]:
    """Return bad words as biases; one of an id that no model has can never come."""
    sequences = map(tuple, words)
    return {ids: BANNED for ids in sequences if ids and all(0 <= each < 2**31 for each in ids)}


def mask_of(ids: Iterable[int], size: int) -> np.ndarray:
    """Return (size / 32, rounded up) uint32: a bit for each id, those outside passed over."""
    bits, each = np.zeros(-(-size // BITS) * BITS, np.uint8), np.fromiter(ids, np.int64)
    bits[each[(each >= 0) & (each < size)]] = True
    return np.packbits(bits, bitorder="little").view("<u4")
