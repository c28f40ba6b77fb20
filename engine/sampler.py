"""Logits to tokens for a whole step: biases, bans and penalties of each row, the draw, logprobs."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..kernels.sampling.edit import Edits
from ..kernels.sampling.logprobs import RowLogprobs, logprobs
from ..kernels.sampling.sample import Draws
from ..kernels.sampling.sample import draw as draw_rows
from .philox import uniform
from .request import Refusal, TokenLogprobs
from .sequence import Sequence as State

MOST_LOGPROBS = 20  # OpenAI's limit, kept by the dialects


@dataclass(frozen=True, slots=True)
class Drawn:
    token: int
    logprobs: TokenLogprobs | None = None


def draw(logits: mx.array, sequences: Sequence[State]) -> list[Drawn]:
    """(rows, vocabulary) float32 logits, a row a sequence -> the next token of each.

    Raises nothing: a row of NaN gives token -1.
    """
    wanted = [sequence.request.logprobs for sequence in sequences]
    rows = [row for row, most in enumerate(wanted) if most is not None]
    tokens, found = draw_rows(
        logits, _edits(sequences), _draws(sequences), None, rows, MOST_LOGPROBS
    )
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
        uniform=np.array([_uniform(sequence) for sequence in sequences]),
    )


def _uniform(sequence: State) -> float:
    """The next token's draw, which depends on the seed and the position alone."""
    sampling = sequence.request.sampling
    # No kernel reads it of a greedy row.
    return uniform(sampling.seed, sequence.generated) if sampling.temperature else 0.0


def _edits(sequences: Sequence[State]) -> Edits | None:
    tables = {row: s.edits.table() for row, s in enumerate(sequences) if s.edits is not None}
    if not any(map(len, tables.values())):
        return None
    rows = np.repeat(list(tables), list(map(len, tables.values())))
    return Edits(rows, *np.concatenate(list(tables.values())).T)


def _entry(found: RowLogprobs, place: int, token: int, most: int) -> TokenLogprobs:
    ids, scores = found.ids[place, :most].tolist(), found.scores[place, :most].tolist()
    return TokenLogprobs(token, float(found.chosen[place]), list(zip(ids, scores, strict=True)))
