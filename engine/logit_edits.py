"""A request's changes to the logits of single tokens: biases, bans and penalties."""

from array import array
from collections import Counter
from collections.abc import Iterable

import numpy as np

from .request import Request, Sampling

ID, BIAS, PENALTY, LESS = range(4)  # columns: a token, and what kernels.edit does to its logit


class LogitEdits:
    """A table of one sequence's edits, which follows its tokens and looks at each of them once.

    It is built at the start, and anew when `min_tokens` are generated: the ids that end an answer,
    banned until then, may be drawn.
    """

    def __init__(self, request: Request, tokens: "array[int]", banned: Iterable[int]) -> None:
        self._request = request
        self._tokens = tokens
        self._penalizes = _penalizes(request.sampling)
        self._banned = dict.fromkeys(banned, -np.inf)
        self._build()

    def _build(self) -> None:
        """Build the table as it is before the first generated token."""
        request, sampling = self._request, self._request.sampling
        seen = dict.fromkeys(request.tokens if sampling.repetition_penalty != 1 else ())
        bias = sampling.logit_bias | self._banned
        ids = list(seen | bias)
        self._followed = len(request.tokens)
        self._counts = Counter[int]()
        self._places = dict(zip(ids, range(len(ids)), strict=True))
        self._table = np.tile([0.0, 0.0, 1.0, 0.0], (2 * len(ids) + 8, 1))
        self._table[: len(ids), ID] = ids
        self._table[: len(seen), PENALTY] = sampling.repetition_penalty
        for token, value in bias.items():
            self._table[self._places[token], BIAS] = value

    @classmethod
    def of(
        cls, request: Request, tokens: "array[int]", eos_ids: Iterable[int]
    ) -> "LogitEdits | None":
        """Return the edits of a sequence whose `tokens` grow; None where nothing is edited."""
        banned = [*eos_ids, *request.stop_token_ids] if request.min_tokens > 0 else []
        edited = banned or request.sampling.logit_bias or _penalizes(request.sampling)
        return cls(request, tokens, banned) if edited else None

    def table(self) -> np.ndarray:
        """Return (entries, 4) float64, no id twice, for the next token, until the next call."""
        request, length = self._request, len(self._tokens)
        if self._banned and length - len(request.tokens) >= request.min_tokens:
            self._banned = {}
            self._build()
        if self._penalizes:
            for token in self._tokens[self._followed : length]:
                self._count(token)
        self._followed = length
        return self._table[: len(self._places)]

    def _count(self, token: int) -> None:
        """Count one more of a generated token."""
        sampling = self._request.sampling
        place = self._places.setdefault(token, len(self._places))
        if place == len(self._table):
            self._table = np.concatenate((self._table, np.zeros_like(self._table)))
        self._counts[token] += 1
        less = sampling.presence_penalty + self._counts[token] * sampling.frequency_penalty
        entry = self._table[place]
        entry[ID], entry[PENALTY], entry[LESS] = token, sampling.repetition_penalty, less


def _penalizes(sampling: Sampling) -> bool:
    penalties = sampling.presence_penalty, sampling.frequency_penalty
    return sampling.repetition_penalty != 1 or any(penalties)
