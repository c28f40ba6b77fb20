"""What is to be embedded, as the tokens that a chat model takes."""

import sys
from array import array
from collections.abc import Iterator, Sequence

from ..engine.request import Refusal
from .openai_embeddings import Embedding
from .renderer import Renderer

FIELD = "input"
TEXTS = 32  # that are tokenized in one go

Given = Sequence[str | tuple[int, ...]]


def portions(request: Embedding) -> Iterator[tuple[int, Given]]:
    """Yield the inputs, a few at a time, with the number of the first."""
    for first in range(0, len(request.inputs), TEXTS):
        yield first, request.inputs[first : first + TEXTS]


def check(request: Embedding, width: int) -> None:
    """Refuse what a chat model's vectors of `width` numbers cannot be."""
    if request.prompt:
        message = f"This model has no prompt named {request.prompt!r}: a chat model has none."
        raise Refusal(400, "invalid_value", message, "prompt_name")
    if request.dimensions is not None and request.dimensions > width:
        message = f"dimensions is {request.dimensions}; this model's vectors have {width}."
        raise Refusal(400, "invalid_value", message, "dimensions")


def read_inputs(
    renderer: Renderer, given: Given, first: int, truncate: bool, context: int, vocabulary: int
) -> "list[array[int]]":
    """Return the tokens of each input, which are numbered from `first` on. Raises Refusal.

    Names of control tokens in texts are text, unless the renderer says otherwise.
    """
    out = []
    for row, each in enumerate(given, first):
        try:
            tokens = _tokens(renderer, each, truncate, context)
            renderer.refuse_unknown(tokens, vocabulary, FIELD)
        except Refusal as refusal:
            raise _of_input(row, refusal) from None
        out.append(array("I", tokens))
    return out


def _tokens(
    renderer: Renderer, given: str | tuple[int, ...], truncate: bool, context: int
) -> Sequence[int]:
    tokens: Sequence[int] = given if isinstance(given, tuple) else ()
    if isinstance(given, str):
        most = sys.maxsize if truncate else context
        tokens = renderer.tokens(given, True, renderer.parse_special, most)
    if not tokens:
        raise Refusal(400, "invalid_value", "It has no tokens.", FIELD)
    if len(tokens) > context and not truncate:
        message = (
            f"It has {len(tokens)} tokens, and the model takes {context}; "
            'shorten it, or send "truncate": true.'
        )
        raise Refusal(400, "context_length_exceeded", message, FIELD)
    return tokens[:context]


def _of_input(row: int, refusal: Refusal) -> Refusal:
    return Refusal(refusal.status, refusal.code, f"{FIELD}[{row}]: {refusal.message}", FIELD)
