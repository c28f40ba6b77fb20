"""A sequence in the engine: its counts, and what makes pages sharable."""

from array import array
from typing import cast

from bessemer.engine.grammar.answer_grammar import AnswerGrammar
from bessemer.engine.request import Constraint, Request
from bessemer.engine.sequence import Sequence


def sequence(tokens: list[int], salt: str = "", kind: str = "") -> Sequence:
    return Sequence.of(Request(id=1, tokens=tokens, max_tokens=9, salt=salt), kind=kind)


def test_counts_follow_the_tokens() -> None:
    one = sequence([5, 6, 7, 8])
    assert (one.pending, one.generated) == (4, 0)
    one.computed = 4
    one.tokens.append(9)
    assert (one.pending, one.generated, one.request.tokens) == (1, 1, [5, 6, 7, 8])


def test_it_may_run_once_the_grammar_that_it_is_held_to_is_compiled() -> None:
    free = sequence([1])
    assert free.is_prepared is True
    held = Request(
        id=1, tokens=[1], max_tokens=9, constraint=Constraint(grammar="regex", definition="a")
    )
    one = Sequence.of(held)
    assert one.is_prepared is False
    one.grammar = cast(AnswerGrammar, object())
    assert one.is_prepared is True


def test_a_page_key_is_of_all_tokens_of_one_page() -> None:
    one, other = sequence([1, 2, 3, 4, 5, 6]), sequence([9, 9, 3, 4, 7])
    assert one.page_key(1, 2) == other.page_key(1, 2) == array("I", [3, 4]).tobytes()
    assert len({one.page_key(index, 2) for index in range(3)}) == 3
    assert one.page_key(0, 2) != other.page_key(0, 2) and one.page_key(2, 2) != other.page_key(2, 2)


def test_alike_are_equal_tokens_of_one_salt_and_kind() -> None:
    one = sequence([1, 2, 3], "a", "long")
    assert one.alike(sequence([1, 2, 4], "a", "long"), 2)
    assert not one.alike(sequence([1, 2, 4], "a", "long"), 3)
    assert not one.alike(sequence([1, 2, 3], "b", "long"), 2)
    assert not one.alike(sequence([1, 2, 3], "a", "short"), 2)
    assert not sequence([1], "a", "b").alike(sequence([1], "b", "a"), 1)


def test_common_pages_are_the_whole_ones_before_the_first_difference() -> None:
    one = sequence([1, 2, 3, 4, 5, 6])
    for tokens, pages in (([1, 2, 3, 4, 5, 7], 2), ([1, 2, 3], 1), ([1, 9, 3, 4], 0)):
        assert one.common_pages(sequence(tokens), 2) == pages
    assert one.common_pages(sequence([1, 2, 3, 4], "salt"), 2) == 0


def test_an_answer_is_full_where_no_more_were_asked_for_or_fit() -> None:
    for room, full in (100, 9), (7, 4):
        one = Sequence.of(Request(id=1, tokens=[5, 6, 7], max_tokens=9), room=room)
        for _ in range(full):
            assert not one.is_full
            one.tokens.append(8)
        assert one.is_full
