"""Logits to tokens for a whole step: each row's edits and what it may draw, the draw, logprobs.

What is drawn or scored stays on the device, submitted, until it is read.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from msgspec.structs import replace

from ..kernels.sampling.edit import Edits
from ..kernels.sampling.logprobs import LOGPROBS, Parts, RowLogprobs
from ..kernels.sampling.sample import Draws, draw
from .philox import uniform
from .request import Refusal, TokenLogprobs
from .sequence import Sequence
from .token_rules import BITS, mask_of

MAX_LOGPROBS = 20  # OpenAI's limit, kept by the dialects


@dataclass(frozen=True, slots=True)
class Sampled:
    token: int  # below 0: none could be drawn
    logprobs: TokenLogprobs | None = None
    banned: bool = False  # none could, though the model's numbers are sound


@dataclass(frozen=True, slots=True)
class Drawn:
    """The tokens of (rows, vocabulary) logits, (rows,) int32, below 0 where there is none.

    `tops` are the likeliest tokens that each row wants scored, or None; scores are of those rows.
    """

    tokens: mx.array
    logits: mx.array
    tops: tuple[int | None, ...]
    scores: Parts | None

    def read(self) -> list[Sampled]:
        """Wait for the tokens, and return one a row."""
        ids: list[int] = np.array(self.tokens).tolist()
        scores = None if self.scores is None else RowLogprobs(*map(np.array, self.scores))
        entries = {
            row: _entry(scores, place, ids[row], self.tops[row] or 0)
            for place, row in enumerate(_scored(self.tops))
            if scores is not None
        }
        return [
            Sampled(token, entries.get(row))
            if token >= 0
            else Sampled(token, banned=_is_sound(self.logits[row]))
            for row, token in enumerate(ids)
        ]


def sample(logits: mx.array, sequences: Seq[Sequence]) -> Drawn:
    """Draw the next token of each sequence; logits: (sequences, vocabulary).

    Raises nothing: a row of NaN gives token -1, and so does one of which nothing may be drawn.
    """
    tops = tuple(sequence.request.logprobs for sequence in sequences)
    settings = _edits(sequences), _draws(sequences), _masks(sequences, logits.shape[-1])
    tokens, scores = draw(logits, *settings, _scored(tops), MAX_LOGPROBS)
    mx.async_eval(tokens, *(scores or ()))  # type: ignore[no-untyped-call]
    return Drawn(tokens, logits, tops, scores)


@dataclass(frozen=True, slots=True)
class PromptScores:
    """The log probabilities of a prompt's tokens, `top` of the likeliest, and ranks (tokens,)."""

    tokens: tuple[int, ...]
    top: int
    scores: Parts
    ranks: mx.array

    def read(self) -> list[TokenLogprobs]:
        """Wait for the numbers, and return an entry a token."""
        scores, ranks = RowLogprobs(*map(np.array, self.scores)), np.array(self.ranks).tolist()
        entries = [_entry(scores, row, token, self.top) for row, token in enumerate(self.tokens)]
        return [replace(entry, rank=rank) for entry, rank in zip(entries, ranks, strict=True)]


def score_prompt(logits: mx.array, tokens: Seq[int], top: int) -> PromptScores:
    """Score one token a row of (tokens, vocabulary) logits, before any setting."""
    ids = mx.array(list(tokens), mx.int32)
    scores = LOGPROBS(logits, range(len(tokens)), ids, min(MAX_LOGPROBS, logits.shape[-1]))
    chosen = mx.take_along_axis(logits, ids[:, None], axis=1)
    ranks = 1 + mx.sum(logits > chosen, axis=1)
    mx.async_eval(ranks, *scores)  # type: ignore[no-untyped-call]
    return PromptScores(tuple(tokens), top, scores, ranks)


def _scored(tops: Seq[int | None]) -> list[int]:
    """List the rows whose tokens are scored."""
    return [row for row, top in enumerate(tops) if top is not None]


def broken_numbers() -> Refusal:
    return Refusal(500, "numerics", "The model computed NaN; its weights or its config are broken.")


def _draws(sequences: Seq[Sequence]) -> Draws:
    settings = [sequence.request.sampling for sequence in sequences]
    return Draws(
        temperature=np.array([s.temperature for s in settings]),
        top_k=np.array([s.top_k for s in settings]),
        top_p=np.array([s.top_p for s in settings]),
        min_p=np.array([s.min_p for s in settings]),
        uniform=np.array([_uniform(sequence) for sequence in sequences]),
    )


def _uniform(sequence: Sequence) -> float:
    """Return the next token's random number, which depends on seed and position alone."""
    sampling = sequence.request.sampling
    # No kernel reads it of a greedy row.
    return uniform(sampling.seed, sequence.generated) if sampling.temperature else 0.0


def _edits(sequences: Seq[Sequence]) -> Edits | None:
    edits = ((row, s.edits) for row, s in enumerate(sequences) if s.forced is None)
    tables = {row: each.tables() for row, each in edits if each is not None}
    lasting = {row: table for row, (table, _) in tables.items() if len(table)}
    latest = {row: table for row, (_, table) in tables.items() if len(table)}
    return Edits(lasting, latest) if lasting or latest else None


def _masks(sequences: Seq[Sequence], size: int) -> np.ndarray | None:
    """Return the bits of what each row may draw; None where all may draw everything."""
    edited = {row: s.edits.mask(size) for row, s in enumerate(sequences) if s.edits is not None}
    held = {row: s.grammar.mask(size) for row, s in enumerate(sequences) if s.grammar is not None}
    masks = [(row, mask) for row, mask in (*edited.items(), *held.items()) if mask is not None]
    forced = [(row, s.forced) for row, s in enumerate(sequences) if s.forced is not None]
    if not masks and not forced:
        return None
    bits = np.full((len(sequences), -(-size // BITS)), 2**BITS - 1, np.uint32)
    for row, mask in masks:
        bits[row] &= mask
    for row, token in forced:
        bits[row] = mask_of([token], size)
    return bits


def _is_sound(logits: mx.array) -> bool:
    """Return whether a row of the model's has no NaN, and something to draw."""
    return bool(np.max(np.array(logits.astype(mx.float32))) > -np.inf)


def _entry(scores: RowLogprobs, place: int, token: int, top: int) -> TokenLogprobs:
    ids, values = scores.ids[place, :top].tolist(), scores.scores[place, :top].tolist()
    return TokenLogprobs(token, float(scores.chosen[place]), list(zip(ids, values, strict=True)))
