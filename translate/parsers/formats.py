"""The table of answer formats: a model has the first that suits its chat template and tokenizer."""

from collections.abc import Collection, Sequence

from . import channels, think
from .parser import AnswerFormat

FORMATS: Sequence[AnswerFormat] = (channels.FORMAT, *think.FAMILIES, think.FORMAT)


def choose(
    template: str, special_tokens: Collection[str], formats: Sequence[AnswerFormat] = FORMATS
) -> AnswerFormat:
    """Return a model's format; the last row of the table suits every one."""
    return next(format for format in formats if format.suits(template, special_tokens))
