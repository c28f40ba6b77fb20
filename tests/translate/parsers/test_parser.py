"""Parsers without marks, and with those that the worker knows too."""

import pytest

from bessemer.engine.request import AnswerMarks, Channels, Thought
from bessemer.engine.text.specials import Specials
from bessemer.translate.chat import ReasoningDelta, TextDelta
from bessemer.translate.parsers.parser import AnswerToken, PlainParser, SplitParser


def test_text_passes_and_special_tokens_do_not() -> None:
    parser = PlainParser(2)
    tokens = [AnswerToken(1, "<think>a"), AnswerToken(2, "", "<|end|>"), AnswerToken(None, "b")]
    assert [delta for token in tokens for delta in parser.feed(token)] == [
        TextDelta(2, "<think>a"),
        TextDelta(2, "b"),
    ]
    assert not parser.close() and not parser.reasoning


@pytest.mark.parametrize(
    ("marks", "answer"),
    [
        (Thought("<think>", "</think>"), "<think>Hm</think>\nHi"),
        (Channels(), "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|message|>Hi"),
    ],
)
def test_thought_and_text_of_one_token_come_in_their_order(marks: AnswerMarks, answer: str) -> None:
    parser = SplitParser(1, marks)
    assert parser.feed(AnswerToken(1, answer)) == (ReasoningDelta(1, "Hm"), TextDelta(1, "Hi"))
    assert not parser.reasoning and not parser.close()
    assert parser.feed(AnswerToken(None, " there")) == (TextDelta(1, " there"),)
    assert parser.feed(AnswerToken(None, "")) == ()


def test_a_parser_knows_special_tokens_by_their_codes() -> None:
    specials = Specials({7: "<think>", 8: "</think>"}, ("<think>", "</think>"))
    parser = SplitParser(1, Thought("<think>", "</think>"), specials)
    parser.feed(AnswerToken(7, specials.codes["<think>"], "<think>"))
    assert parser.reasoning
    assert parser.feed(AnswerToken(1, "</think>")) == (ReasoningDelta(1, "</think>"),)
    assert parser.feed(AnswerToken(8, specials.codes["</think>"], "</think>")) == ()
    assert not parser.reasoning
