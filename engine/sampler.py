"""Logits to tokens for a whole step: biases, bans and penalties of each row, the draw, logprobs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..kernels.edit import Edits as Entries
from ..kernels.edit import edit
from ..kernels.logprobs import logprobs
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
    ids: list[int] = np.array(sample(edited, _draws(sequences))).tolist()
    scored = _logprobs(logits, ids, [s.request.logprobs for s in sequences])
    return [Drawn(token, entry) for token, entry in zip(ids, scored, strict=True)]


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
    table = np.array([(row, *entry) for row, entries in enumerate(edits) for entry in entries])
    return edit(logits, Entries(*table.T)) if len(table) else logits


def _logprobs(
    logits: mx.array, tokens: Sequence[int], wanted: Sequence[int | None]
) -> list[TokenLogprobs | None]:
    rows = [row for row, most in enumerate(wanted) if most is not None]
    entries: list[TokenLogprobs | None] = [None] * len(wanted)
    if not rows:
        return entries
    found = logprobs(logits, rows, [tokens[row] for row in rows], MOST_LOGPROBS)
    for i, row in enumerate(rows):
        most = wanted[row] or 0
        ids, scores = found.ids[i, :most].tolist(), found.scores[i, :most].tolist()
        top = list(zip(ids, scores, strict=True))
        entries[row] = TokenLogprobs(tokens[row], float(found.own[i]), top)
    return entries
