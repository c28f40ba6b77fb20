"""Logits to tokens for a whole step: biases, bans and penalties of each row, the draw, logprobs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..kernels.sample import Draws, sample
from .request import Refusal, TokenLogprobs
from .sequence import Sequence as State

MOST_LOGPROBS = 20  # OpenAI's limit, kept by the dialects


@dataclass(frozen=True, slots=True)
class Drawn:
    token: int
    logprobs: TokenLogprobs | None = None


@dataclass(slots=True)
class Edits:
    """What changes at single tokens of one row: an addend, then a divisor, then a subtrahend."""

    bias: dict[int, float]
    penalty: dict[int, float]
    less: dict[int, float]

    @classmethod
    def of(cls, sequence: State, ends: Iterable[int]) -> "Edits":
        sampling = sequence.request.sampling
        bias = dict(sampling.logit_bias)
        if sequence.generated < sequence.request.min_tokens:
            bias |= dict.fromkeys([*ends, *sequence.request.stop_token_ids], -np.inf)
        penalty: dict[int, float] = {}
        if sampling.repetition_penalty != 1:
            penalty = dict.fromkeys(sequence.tokens, sampling.repetition_penalty)
        less: dict[int, float] = {}
        if sampling.presence_penalty or sampling.frequency_penalty:
            less = {
                token: sampling.presence_penalty + count * sampling.frequency_penalty
                for token, count in sequence.seen.items()
            }
        return cls(bias, penalty, less)

    def rows(self) -> list[tuple[int, float, float, float]]:
        tokens = self.bias.keys() | self.penalty.keys() | self.less.keys()
        return [
            (t, self.bias.get(t, 0.0), self.penalty.get(t, 1.0), self.less.get(t, 0.0))
            for t in tokens
        ]


def draw(logits: mx.array, sequences: Sequence[State], ends: Iterable[int]) -> list[Drawn]:
    """(rows, vocabulary) float32 logits, a row a sequence -> the next token of each.

    `ends` are the model's end-of-sequence ids. Raises nothing: a row of NaN gives token -1.
    """
    edited = _edit(logits, [Edits.of(sequence, ends).rows() for sequence in sequences])
    tokens = sample(edited, _draws(sequences))
    chosen = mx.take_along_axis(edited, tokens[:, None], axis=-1)[:, 0]
    ids = np.array(mx.where(mx.isnan(chosen), -1, tokens)).tolist()
    logprobs = _logprobs(logits, ids, [s.request.logprobs for s in sequences])
    return [Drawn(token, entry) for token, entry in zip(ids, logprobs, strict=True)]


def logprobs_of(logits: mx.array, tokens: Sequence[int], most: int) -> list[TokenLogprobs]:
    """The log probability of each row's token and of the `most` likeliest, before any setting."""
    return [entry for entry in _logprobs(logits, tokens, [most] * len(tokens)) if entry]


def broken_numbers() -> Refusal:
    return Refusal(500, "numerics", "The model computed NaN; its weights or its config are broken.")


def _draws(sequences: Sequence[State]) -> Draws:
    settings = [sequence.request.sampling for sequence in sequences]
    return Draws(
        temperature=np.array([s.temperature for s in settings]),
        top_k=np.array([s.top_k for s in settings]),
        top_p=np.array([s.top_p for s in settings]),
        min_p=np.array([s.min_p for s in settings]),
        uniform=np.array([s.draws.random() for s in sequences]),
    )


def _edit(logits: mx.array, edits: list[list[tuple[int, float, float, float]]]) -> mx.array:
    """Sparse edits, as sums at (row, token): padding adds 0 at token 0, which does no harm."""
    width = max(map(len, edits))
    if not width:
        return logits
    vocabulary = logits.shape[-1]
    table = np.zeros((len(edits), width, 4))
    table[:, :, 2] = 1
    for row, entries in enumerate(edits):
        known = [entry for entry in entries if entry[0] < vocabulary]
        if known:
            table[row, : len(known)] = known
    ids = mx.array(table[:, :, 0].astype(np.int32))
    bias, penalty, less = (mx.array(table[:, :, i].astype(np.float32)) for i in (1, 2, 3))
    old = mx.take_along_axis(logits, ids, axis=-1)
    new = old + bias
    new = mx.where(new > 0, new / penalty, new * penalty) - less
    return logits.at[mx.arange(len(edits))[:, None], ids].add(new - old)


def _logprobs(
    logits: mx.array, tokens: Sequence[int], wanted: Sequence[int | None]
) -> list[TokenLogprobs | None]:
    rows = [row for row, most in enumerate(wanted) if most is not None]
    entries: list[TokenLogprobs | None] = [None] * len(wanted)
    if not rows:
        return entries
    picked = logits[mx.array(rows)]
    scores = picked - mx.logsumexp(picked, axis=-1, keepdims=True)
    own = mx.array([max(tokens[row], 0) for row in rows])
    own_scores = np.array(mx.take_along_axis(scores, own[:, None], axis=-1))[:, 0].tolist()
    best = mx.argsort(-scores, axis=-1)[:, :MOST_LOGPROBS]
    best_scores = np.array(mx.take_along_axis(scores, best, axis=-1))
    ids = np.array(best)
    for i, row in enumerate(rows):
        most = wanted[row] or 0
        top = list(zip(ids[i, :most].tolist(), best_scores[i, :most].tolist(), strict=True))
        entries[row] = TokenLogprobs(tokens[row], own_scores[i], top)
    return entries
