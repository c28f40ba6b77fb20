"""What a reranker is asked whose checkpoint says nothing of it, as its card has it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to ask a model that says nothing of it whether a document answers a query.

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
