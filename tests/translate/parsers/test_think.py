"""The reasoning split, whole and in any pieces."""

import pytest

from bessemer.engine.request import Thought
from bessemer.translate.chat import Chat, Message, ReasoningDelta, TextDelta, said
from bessemer.translate.parsers.parser import AnswerToken
from bessemer.translate.parsers.think import CLOSE, FORMAT, OPEN, ThinkParser, thought


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ("<|im_start|>assistant\n<think>\n", True),
        ("<|im_start|>assistant\n<think>", True),
        ("<|im_start|>assistant\n", False),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("What does <think> mean?<|im_end|>\n<|im_start|>assistant\n", False),
        ("", False),
    ],
)
def test_opens_reasoning(prompt: str, opened: bool) -> None:
    assert thought(prompt, Chat("m", ())).opened is opened


def test_going_on_in_a_thought() -> None:
    def opened(content: str, go_on: bool = True) -> bool:
        chat = Chat("m", (Message("assistant", said(content)),), continue_final=go_on)
        return thought(f"assistant: {content}", chat).opened

    assert opened("<think>\nHm, so")
    assert not opened("<think>\nHm, so", go_on=False)
    assert not opened("<think>Hm</think>So")
    assert not opened("A <think> tag is")


def test_a_parser_starts_where_the_prompt_left_off() -> None:
    chat = Chat("m", ())
    opened, plain = (
        FORMAT.parser(1, FORMAT.thought(prompt, chat)) for prompt in ("a: <think>\n", "a:")
    )
    tokens = [AnswerToken(1, "Hm</think>"), AnswerToken(2, "", "<|x|>"), AnswerToken(3, "\nHi")]
    fed = [delta for token in tokens for delta in opened.feed(token)]
    assert fed == [ReasoningDelta(1, "Hm"), TextDelta(1, "Hi")] and not opened.close()
    fed = [delta for token in tokens for delta in plain.feed(token)]
    assert fed == [TextDelta(1, "Hm</think>"), TextDelta(1, "\nHi")]


def test_thought_and_text_of_one_token_come_in_their_order() -> None:
    parser = ThinkParser(0, Thought(OPEN, CLOSE))
    assert parser.feed(AnswerToken(1, "<think>a</think>b")) == (
        ReasoningDelta(0, "a"),
        TextDelta(0, "b"),
    )
