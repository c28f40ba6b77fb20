"""What a request says of single tokens, checked against a model's vocabulary."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..engine.request import Refusal
from ..engine.text.tokenizer import Tokenizer
from .chat import GenerationOptions
from .decode import invalid


@dataclass(frozen=True, slots=True)
class TokenRules:
    """The ids that an answer may have (None: all), those in a row that it may not, and its ends."""

    allowed: Sequence[int] | None
    bad_words: list[list[int]]
    stops: list[int]


def token_rules(options: GenerationOptions, tokenizer: Tokenizer, vocabulary: int) -> TokenRules:
    """Return the rules in a model's ids. Raises Refusal for an id that it does not have.

    To stop at such an id is no mistake, for other models may have it; it just never comes.
    """
    _check("logit_bias", options.logit_bias, vocabulary)
    _check("allowed_token_ids", options.allowed_token_ids or (), vocabulary)
    words = (ids for word in options.bad_words for ids in _spellings(word, tokenizer))
    return TokenRules(
        options.allowed_token_ids,
        [ids for ids in words if max(ids) < vocabulary],
        [token for token in options.stop_token_ids if token < vocabulary],
    )


def unknown_id(field: str, token: int, vocabulary: int) -> Refusal:
    problem = f"names {token}, which is no token id of this model; ids go from 0 to"
    return invalid(field, f"{problem} {vocabulary - 1}")


def _check(field: str, ids: Iterable[int], vocabulary: int) -> None:
    for token in ids:
        if not 0 <= token < vocabulary:
            raise unknown_id(field, token, vocabulary)


def _spellings(word: str, tokenizer: Tokenizer) -> Iterator[list[int]]:
    """Yield a word's ids at the beginning of a text, and within one, where they are others.

    As in vLLM: the ids after a space count where they are as many, and begin with another.
    """
    first = tokenizer.encode(word.lstrip(), special=False)
    within = tokenizer.encode(" " + word.lstrip(), special=False)
    if first:
        yield first
    if within and (not first or (len(within) == len(first) and within[0] != first[0])):
        yield within
