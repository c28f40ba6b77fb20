"""Logits to tokens for a whole step: biases, bans and penalties of each row, the draw, logprobs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..kernels.edit import Edits as Entries
from ..kernels.logprobs import Logprobs, logprobs
from ..kernels.sample import Draws
from ..kernels.sample import draw as draw_rows
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
    edits = _edits([Edits.of(sequence, ends).rows() for sequence in sequences])
    wanted = [sequence.request.logprobs for sequence in sequences]
    rows = [row for row, most in enumerate(wanted) if most is not None]
    tokens, found = draw_rows(logits, edits, _draws(sequences), None, rows, MOST_LOGPROBS)
    ids: list[int] = tokens.tolist()
    drawn = [Drawn(token) for token in ids]
    for place, row in enumerate(rows if found is not None else ()):
        assert found is not None
        drawn[row] = Drawn(ids[row], _entry(found, place, ids[row], wanted[row] or 0))
    return drawn


def logprobs_of(logits: mx.array, tokens: Sequence[int], most: int) -> list[TokenLogprobs]:
    """The log probability of each row's token and of the `most` likeliest, before any setting."""
    if not len(tokens):
        return []
    found = logprobs(logits, range(len(tokens)), tokens, MOST_LOGPROBS)
    return [_entry(found, row, token, most) for row, token in enumerate(tokens)]


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


def _edits(edits: list[list[tuple[int, float, float, float]]]) -> Entries | None:
    table = np.array([(row, *entry) for row, entries in enumerate(edits) for entry in entries])
    return Entries(*table.T) if len(table) else None


def _entry(found: Logprobs, place: int, token: int, most: int) -> TokenLogprobs:
    ids, scores = found.ids[place, :most].tolist(), found.scores[place, :most].tolist()
    return TokenLogprobs(token, float(found.own[place]), list(zip(ids, scores, strict=True)))
