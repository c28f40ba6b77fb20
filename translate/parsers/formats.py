"""The table of answer formats: a model has the first that suits its chat template and tokenizer."""

from collections.abc import Collection, Sequence

from . import think
from .parser import Format

FORMATS: Sequence[Format] = (think.FORMAT,)


def choose(
    template: str, special_tokens: Collection[str], formats: Sequence[Format] = FORMATS
) -> Format:
    """The format of a model; the last row of the table suits every one."""
    return next(format for format in formats if format.suits(template, special_tokens))
