"""A sequence's changes to the logits of single tokens: biases, bans, penalties, what is allowed."""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from ..kernels.sampling.edit import BIAS, PENALTY, EditTable
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

FACTORS = 1e-37, 1e37  # of a penalty: no more and no less, lest a ban become NaN in float32
NOTHING = EditTable.empty()
OWN = frozenset({"id", "sampling", "prompt_logprobs"})  # what choices do not have in common


class LastingEdits:
    """The edits of a prompt's answers that hold whatever is generated, prepared once for all.

    They change only when a ban ends: of the ids that end an answer, when `min_tokens` are
    generated, and of those that may not begin one. Raises Refusal where nothing could be drawn.
    """

    def __init__(self, request: Request, eos_ids: Iterable[int], rules: GenerationRules) -> None:
        self._request = request
        self._suppressed = rules.suppress_tokens
        self._until = _passing_bans(request, eos_ids, rules)
        low, high = FACTORS
        self.factor = min(max(request.sampling.repetition_penalty, low), high)
        self.sequences = SequenceBias({**rules.sequence_bias, **bad_words(request.bad_words)})
        self._phases: dict[int, tuple[Mapping[int, float], EditTable]] = {}
        self._masks: dict[tuple[int, ...] | None, np.ndarray] = {}
        biases, _ = self.after(0)
        allowed = request.allowed_token_ids if request.max_tokens else None
        if allowed is not None and all(biases.get(token) == BANNED for token in allowed):
            raise nothing_allowed()

    def serve(self, request: Request) -> bool:
        """Return whether the request is another choice of the same prompt, which shares its fields.

        Only what is the very same object is alike: nothing is read through.
        """
        ours, theirs = self._request, request
        fields = Request.__struct_fields__
        return all(getattr(ours, f) is getattr(theirs, f) for f in fields if f not in OWN) and all(
            getattr(ours.sampling, f) is getattr(theirs.sampling, f)
            for f in Sampling.__struct_fields__
            if f != "seed"
        )

    def after(self, generated: int) -> tuple[Mapping[int, float], EditTable]:
        """Return the biases and the table, which no generated token is in, after so many tokens."""
        left = min((count for count in self._until if count > generated), default=0)
        if left not in self._phases:
            bans = [ids for count, ids in self._until.items() if count > generated]
            biases = self._biases([self._suppressed, *bans])
            self._phases[left] = biases, self._table(biases)
        return self._phases[left]

    def mask(self, ids: tuple[int, ...] | None, size: int) -> np.ndarray:
        """Return the bits of these ids, by default those that the request allows, of so many."""
        if ids not in self._masks:
            allowed = self._request.allowed_token_ids if ids is None else ids
            self._masks[ids] = mask_of(allowed or (), size)
        return self._masks[ids]

    def _biases(self, banned: Iterable[tuple[int, ...]]) -> Mapping[int, float]:
        bias = Counter(self._request.sampling.logit_bias)
        bias.update(self.sequences.single)
        return dict(bias) | dict.fromkeys((token for ids in banned for token in ids), BANNED)

    def _table(self, biases: Mapping[int, float]) -> EditTable:
        """Return the table of these biases, and of the penalty on what the prompt has."""
        request = self._request
        tokens = request.tokens if request.sampling.repetition_penalty != 1 else ()
        seen, biased = np.unique(np.array(tokens, np.int64)), np.array([*biases], np.int64)
        ids = np.union1d(seen, biased)
        changes = np.tile(np.array([0.0, 1.0, 0.0], np.float32), (len(ids), 1))
        changes[np.searchsorted(ids, seen), PENALTY] = self.factor
        changes[np.searchsorted(ids, biased), BIAS] = [*map(_finite, biases.values())]
        return EditTable(ids, changes)


class LogitEdits:
    """The edits of one sequence, which follow its tokens and look at each of them once.

    What lasts is shared; beside it stands a table of what was generated, where that is penalized,
    and for one token of the biases that the tokens before decide. `room` is for how many tokens
    there is, generated or not.
    """

    def __init__(
        self,
        request: Request,
        tokens: "array[int]",
        lasting: LastingEdits,
        rules: GenerationRules,
        room: int,
    ) -> None:
        self.lasting = lasting
        self._request = request
        self._tokens = tokens
        self._rules = rules
        self._penalizes = _penalizes(request.sampling)
        size = rules.no_repeat_ngram_size
        self._ngrams = Ngrams(size) if size else None
        self._last = min(len(request.tokens) + request.max_tokens, room) - 1
        self._followed = len(request.tokens)
        self._counts = Counter[int]()
        self._biases, self._table = lasting.after(0)
        self._generated = EditTable.empty()

    @classmethod
    def of(
        cls,
        request: Request,
        tokens: "array[int]",
        eos_ids: Iterable[int] = (),
        rules: GenerationRules = NO_RULES,
        room: int = 2**31,
        lasting: LastingEdits | None = None,
    ) -> "LogitEdits | None":
        """Return the edits of a sequence whose `tokens` grow; None where nothing is edited.

        Raises Refusal where not even the first token could be drawn.
        """
        if lasting is None or not lasting.serve(request):
            lasting = LastingEdits(request, eos_ids, rules)
        edits = cls(request, tokens, lasting, rules, room)
        edited = len(edits._table) or edits._penalizes or lasting.sequences or edits._ngrams
        forced = rules.forced_bos_token_id or rules.forced_eos_token_id
        return edits if edited or forced or request.allowed_token_ids is not None else None

    def tables(self) -> tuple[EditTable, EditTable]:
        """Return the table that lasts and the one that counts instead, for the next token."""
        length = len(self._tokens)
        biases, self._table = self.lasting.after(length - len(self._request.tokens))
        if biases is not self._biases:
            self._biases = biases
            tokens = self._generated.ids.tolist()
            self._generated.changes[:, BIAS] = [_finite(biases.get(t, 0.0)) for t in tokens]
        if self._penalizes:
            for token in self._tokens[self._followed : length]:
                self._counts[token] += 1
                self._put(self._generated, token)
        self._followed = length
        if self._forced():
            return NOTHING, NOTHING
        return self._table, self._with_passing(self._generated)

    def mask(self, size: int) -> np.ndarray | None:
        """Return the bits of the ids that may be drawn next of so many; None where all may."""
        ids = self._forced() or None
        if ids is None and self._request.allowed_token_ids is None:
            return None
        return self.lasting.mask(ids, size)

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

    def _with_passing(self, table: EditTable) -> EditTable:
        """Return the table with the biases for the next token alone, if there are any."""
        passing = self.lasting.sequences.after(self._tokens)
        if self._ngrams is not None:
            passing |= dict.fromkeys(self._ngrams.after(self._tokens), BANNED)
        if passing:
            table = table.copy()
            for token, bias in passing.items():
                self._put(table, token, bias)
        return table

    def _put(self, table: EditTable, token: int, bias: float = 0.0) -> None:
        """Put all that is to happen to a token into a table."""
        sampling, count = self._request.sampling, self._counts[token]
        less = sampling.presence_penalty * bool(count) + count * sampling.frequency_penalty
        penalty = self.lasting.factor if count else self._table.penalty(token)
        table.put(token, _finite(self._biases.get(token, 0.0) + bias), penalty, less)


def _finite(bias: float) -> float:
    """Return a bias that float32 holds, lest two infinities become NaN; a ban stays one."""
    return bias if bias == BANNED else min(max(bias, -FACTORS[1]), FACTORS[1])


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
    ends = *eos_ids, *request.stop_token_ids
    bans[request.min_tokens] = bans.get(request.min_tokens, ()) + ends
    return bans


def _begin(request: Request, rules: GenerationRules) -> int:
    """Return which generated token is taken for the first: not one that is forced."""
    return int(len(request.tokens) == 1 and bool(rules.forced_bos_token_id))


def _penalizes(sampling: Sampling) -> bool:
    penalties = sampling.presence_penalty, sampling.frequency_penalty
    return sampling.repetition_penalty != 1 or any(penalties)
