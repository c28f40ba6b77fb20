"""A sequence's changes to the logits of single tokens: biases, bans, penalties, what is allowed."""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from .request import Refusal, Request, Sampling
from .token_rules import (
    BANNED,
    NO_RULES,
    GenerationRules,
    Ngrams,
    SequenceBias,
    bad_words,
    mask_of,
)

ID, BIAS, PENALTY, LESS = range(4)  # columns: a token, and what kernels.edit does to its logit
FACTORS = 1e-37, 1e37  # of a penalty: no more and no less, lest a ban become NaN in float32


class LogitEdits:
    """A table of one sequence's edits, which follows its tokens and looks at each of them once.

    It is built at the start, and anew when a ban ends: of the ids that end an answer, when
    `min_tokens` are generated, and of those that may not begin one. Biases that the tokens before
    decide are put on top for one token. `room` is for how many tokens there is, generated or not.
    """

    def __init__(
        self,
        request: Request,
        tokens: "array[int]",
        eos_ids: Iterable[int],
        rules: GenerationRules,
        room: int,
    ) -> None:
        self._request = request
        self._tokens = tokens
        self._rules = rules
        self._penalizes = _penalizes(request.sampling)
        low, high = FACTORS
        self._factor = min(max(request.sampling.repetition_penalty, low), high)
        self._until = _passing_bans(request, eos_ids, rules)
        self._sequences = SequenceBias({**rules.sequence_bias, **bad_words(request.bad_words)})
        size = rules.no_repeat_ngram_size
        self._ngrams = Ngrams(size) if size else None
        self._last = min(len(request.tokens) + request.max_tokens, room) - 1
        self._masks: dict[tuple[int, ...] | None, np.ndarray] = {}
        self._build()

    def _build(self) -> None:
        """Build the table as it is before the first generated token."""
        request, sampling = self._request, self._request.sampling
        seen = dict.fromkeys(request.tokens if sampling.repetition_penalty != 1 else ())
        bias = self._lasting()
        ids = list(seen | bias)
        self._followed = len(request.tokens)
        self._counts = Counter[int]()
        self._places = dict(zip(ids, range(len(ids)), strict=True))
        self._passing: list[tuple[int, float]] = []  # places, and their biases without the latest
        self._table = np.tile([0.0, 0.0, 1.0, 0.0], (2 * len(ids) + 8, 1))
        self._table[: len(ids), ID] = ids
        self._table[: len(seen), PENALTY] = self._factor
        for token, value in bias.items():
            self._table[self._places[token], BIAS] = value

    def _lasting(self) -> dict[int, float]:
        """Return the biases that hold whatever was generated, and the bans that still do."""
        bias = Counter(self._request.sampling.logit_bias)
        bias.update(self._sequences.single)
        banned = [self._rules.suppress_tokens, *self._until.values()]
        return dict(bias) | dict.fromkeys((token for ids in banned for token in ids), BANNED)

    @classmethod
    def of(
        cls,
        request: Request,
        tokens: "array[int]",
        eos_ids: Iterable[int] = (),
        rules: GenerationRules = NO_RULES,
        room: int = 2**31,
    ) -> "LogitEdits | None":
        """Return the edits of a sequence whose `tokens` grow; None where nothing is edited.

        Raises Refusal where not even the first token could be drawn.
        """
        edits = cls(request, tokens, eos_ids, rules, room)
        if request.allowed_token_ids is not None:
            banned = {token for token, bias in edits._lasting().items() if bias == BANNED}
            if request.max_tokens and banned.issuperset(request.allowed_token_ids):
                raise nothing_allowed()
            return edits
        edited = edits._places or edits._penalizes or edits._sequences or edits._ngrams
        return edits if edited or rules.forced_bos_token_id or rules.forced_eos_token_id else None

    def table(self) -> np.ndarray:
        """Return (entries, 4) float64, no id twice, for the next token, until the next call."""
        length = len(self._tokens)
        generated = length - len(self._request.tokens)
        if any(count <= generated for count in self._until):
            self._until = {n: ids for n, ids in self._until.items() if n > generated}
            self._build()
        for place, bias in self._passing:
            self._table[place, BIAS] = bias
        if self._penalizes:
            for token in self._tokens[self._followed : length]:
                self._count(token)
        self._followed = length
        if self._forced():
            self._passing = []
            return self._table[:0]
        return self._put(self._passing_biases())

    def mask(self, size: int) -> np.ndarray | None:
        """Return the bits of the ids that may be drawn next of so many; None where all may."""
        ids = self._forced() or None
        if ids is None and self._request.allowed_token_ids is None:
            return None
        if ids not in self._masks:
            allowed = self._request.allowed_token_ids if ids is None else ids
            self._masks[ids] = mask_of(allowed or (), size)
        return self._masks[ids]

    def _forced(self) -> tuple[int, ...]:
        """Return the ids of which the checkpoint wants the next token to be one, if it does."""
        request, rules, length = self._request, self._rules, len(self._tokens)
        forced: tuple[int, ...] = ()
        if length == 1:
            forced = rules.forced_bos_token_id
        if length == self._last and not request.ignore_eos:
            forced = rules.forced_eos_token_id or forced
        if not forced:
            return ()
        banned = {*rules.suppress_tokens}
        if length - len(request.tokens) == _begin(request, rules):
            banned.update(rules.begin_suppress_tokens)
        allowed = request.allowed_token_ids
        return tuple(i for i in forced if i not in banned and (allowed is None or i in allowed))

    def _passing_biases(self) -> Mapping[int, float]:
        biases = self._sequences.after(self._tokens)
        if self._ngrams is not None:
            biases |= dict.fromkeys(self._ngrams.after(self._tokens), BANNED)
        return biases

    def _put(self, biases: Mapping[int, float]) -> np.ndarray:
        """Return the table with biases for the next token alone, which may move it."""
        count = len(self._places)
        self._passing = []
        for token, bias in biases.items():
            place = self._places.get(token)
            if place is None:
                place, count = count, count + 1
                self._reserve(place)
                self._table[place] = token, 0.0, 1.0, 0.0
            self._passing.append((place, float(self._table[place, BIAS])))
            self._table[place, BIAS] += bias
        return self._table[:count]

    def _count(self, token: int) -> None:
        """Count one more of a generated token."""
        sampling = self._request.sampling
        place = self._places.setdefault(token, len(self._places))
        self._reserve(place)
        self._counts[token] += 1
        less = sampling.presence_penalty + self._counts[token] * sampling.frequency_penalty
        entry = self._table[place]
        entry[ID], entry[PENALTY], entry[LESS] = token, self._factor, less

    def _reserve(self, place: int) -> None:
        if place == len(self._table):
            self._table = np.concatenate((self._table, np.zeros_like(self._table)))


def nothing_allowed() -> Refusal:
    message = "No token may be drawn: all that are allowed are banned, or none is the model's."
    return Refusal(400, "invalid_value", message, "allowed_token_ids")


def _passing_bans(
    request: Request, eos_ids: Iterable[int], rules: GenerationRules
) -> dict[int, tuple[int, ...]]:
    """Return the ids that are banned until so many tokens are generated."""
    bans: dict[int, tuple[int, ...]] = {}
    if rules.begin_suppress_tokens:
        bans[_begin(request, rules) + 1] = rules.begin_suppress_tokens
    if request.min_tokens > 0:
        ends = *eos_ids, *request.stop_token_ids
        bans[request.min_tokens] = bans.get(request.min_tokens, ()) + ends
    return bans


def _begin(request: Request, rules: GenerationRules) -> int:
    """Return which generated token is taken for the first: not one that is forced."""
    return int(len(request.tokens) == 1 and bool(rules.forced_bos_token_id))


def _penalizes(sampling: Sampling) -> bool:
    penalties = sampling.presence_penalty, sampling.frequency_penalty
    return sampling.repetition_penalty != 1 or any(penalties)
