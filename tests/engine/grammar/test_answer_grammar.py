"""The place of an answer in its grammar: masks, ends and errors."""

from collections.abc import Iterable

import numpy as np
import pytest

from bessemer.engine.grammar.answer_grammar import AnswerGrammar
from bessemer.engine.request import Constraint
from tests.engine.paper_model import END, VOCABULARY, compiler


def grammar(regex: str, ends: Iterable[int] = (END,)) -> AnswerGrammar:
    constraint = Constraint(grammar="regex", definition=regex)
    return AnswerGrammar(compiler().compile(constraint, None), VOCABULARY, ends, "regex")


def allowed(answer: AnswerGrammar, size: int = VOCABULARY) -> str:
    """Return the letters that may come next; a tilde stands for the end."""
    mask = answer.mask(size)
    assert mask.dtype == np.uint32 and mask.shape == (-(-size // 32),)
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little")
    assert not bits[VOCABULARY:].any(), "nothing beyond the model's ids"
    return "".join("~" if token == END else chr(32 + token) for token in np.flatnonzero(bits))


def test_the_mask_follows_the_answer() -> None:
    answer = grammar("AB?[0-3]*")
    assert (allowed(answer), answer.is_over) == ("A", False)
    for letter, following in (("A", "~0123B"), ("B", "~0123"), ("2", "~0123")):
        answer.add(ord(letter) - 32)
        assert (allowed(answer), answer.is_over) == (following, False)


def test_a_grammar_is_over_where_nothing_can_follow() -> None:
    answer = grammar("AB")
    answer.add(33)
    assert not answer.is_over
    answer.add(34)
    assert answer.is_over and answer.refusal is None and allowed(answer) == "~"


@pytest.mark.parametrize(
    ("ends", "following"), [([], "0"), ([END], "~0"), ([END, 40, 33, 10**6], "~0AH")]
)
def test_the_tokens_that_end_the_answer_are_each_requests_own(
    ends: list[int], following: str
) -> None:
    answer = grammar("A0*", ends)
    assert allowed(answer) == "A"
    answer.add(33)
    assert allowed(answer) == following


def test_after_an_error_nothing_may_come_and_it_is_said() -> None:
    answer = grammar("AB")
    answer.add(40)
    assert allowed(answer) == "" and not answer.is_over
    refusal = answer.refusal
    assert refusal is not None and (refusal.status, refusal.field) == (400, "regex")
