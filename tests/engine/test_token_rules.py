"""Sequences, n-grams and masks, by hand from the docstrings of transformers' processors."""

import random
from array import array

import numpy as np
import pytest

from bessemer.engine.token_rules import BANNED, Ngrams, SequenceBias, bad_words, mask_of


def ids(*tokens: int) -> "array[int]":
    return array("I", tokens)


def test_a_sequence_is_biased_where_its_beginning_ends_the_tokens() -> None:
    """The example of SequenceBiasLogitsProcessor: [[10, 45], -2.0], [[64], -7.5]."""
    biases = SequenceBias({(10, 45): -2.0, (64,): -7.5})
    assert biases.single == {64: -7.5} and biases
    assert biases.after(ids(10)) == {45: -2.0}
    assert biases.after(ids(3, 10)) == {45: -2.0}
    for others in (ids(), ids(45), ids(10, 3), ids(10, 45)):
        assert biases.after(others) == {}


def test_sequences_that_end_alike_are_added_up() -> None:
    biases = SequenceBias({(1, 9): 0.5, (2, 1, 9): -2.0, (1, 8): 3.0, (2, 2, 1, 9): BANNED})
    assert biases.after(ids(1)) == {9: 0.5, 8: 3.0}
    assert biases.after(ids(2, 1)) == {9: -1.5, 8: 3.0}
    assert biases.after(ids(2, 2, 1)) == {9: BANNED, 8: 3.0}


def test_a_repeated_beginning_is_found_at_every_shift() -> None:
    biases = SequenceBias({(5, 5, 6): BANNED})
    assert biases.after(ids(5, 5, 5)) == {6: BANNED}
    assert biases.after(ids(5)) == {}


def test_single_ids_alone_need_no_look_up() -> None:
    assert not SequenceBias({(3,): 1.0})
    assert SequenceBias({}).after(ids(1, 2)) == {}


def test_bad_words_without_an_id_or_with_one_of_no_model_are_left_out() -> None:
    words: list[list[int]] = [[], [0], [4], [5, 6], [-1, 3], [3, 2**31], [2**70, 1], [2**31 - 1, 2]]
    assert bad_words(words) == dict.fromkeys([(0,), (4,), (5, 6), (2**31 - 1, 2)], BANNED)


def test_ngrams_are_those_of_the_docstring() -> None:
    """Of _get_ngrams: for [[40, 2883, 2712, 4346]] {(40,): [2883], (2883,): [2712], ...}."""
    grams = Ngrams(2)
    tokens = ids(40, 2883, 2712, 4346)
    assert [*grams.after(tokens)] == []
    for token, banned in ((2883, {2712}), (40, {2883}), (2712, {4346}), (40, {2883, 2712})):
        tokens.append(token)
        assert {*grams.after(tokens)} == banned


def test_ngrams_are_looked_at_once() -> None:
    grams, tokens = Ngrams(2), ids(1, 2, 3)
    assert {*grams.after(tokens)} == set()
    tokens[0] = 3  # nobody looks here again
    assert {*grams.after(tokens)} == set()


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_ngrams_are_those_of_a_search_through_all(size: int) -> None:
    chance = random.Random(size)
    grams, tokens = Ngrams(size), ids()
    for _ in range(200):
        tokens.extend(chance.choices(range(4), k=chance.choice([1, 1, 2])))
        last = [*tokens[len(tokens) - size + 1 :]] if size > 1 else []
        oracle = {
            tokens[at + size - 1]
            for at in range(len(tokens) - size + 1)
            if [*tokens[at : at + size - 1]] == last
        }
        assert {*grams.after(tokens)} == oracle


@pytest.mark.parametrize("size", [1, 31, 32, 33, 262_144])
def test_a_mask_has_a_bit_for_each_id(size: int) -> None:
    words = mask_of([0, size - 1, size // 2, size, -1, 2**31 - 1], size)
    assert words.shape == ((size + 31) // 32,) and words.dtype == np.uint32
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")
    assert np.flatnonzero(bits).tolist() == sorted({0, size - 1, size // 2})
    assert not mask_of([], size).any()
