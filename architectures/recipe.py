"""The prompt of rerankers whose checkpoints say nothing of it, as their cards have it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """The prompt that asks a model whether a document answers a query.

    `text` has places for an instruction, a query and a document; the score is the logit of the
    token `yes` as the next one, less that of `no`.
    """

    text: str
    instruction: str
    yes: str
    no: str

    def __call__(self, turns: Sequence[tuple[str, str]]) -> str:
        said = {"system": self.instruction} | dict(turns)
        return self.text.format(**said)
