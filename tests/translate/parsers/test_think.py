"""The reasoning split, whole and in any pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.engine.request import Thought
from bessemer.engine.text import ThoughtSplitter
from bessemer.translate.chat import Chat, Message, ReasoningDelta, TextDelta, said
from bessemer.translate.parsers.parser import AnswerToken
from bessemer.translate.parsers.think import CLOSE, FORMAT, OPEN, ThinkParser, thought


def split(opened: bool, pieces: list[str]) -> tuple[str, str]:
    splitter = ThoughtSplitter(Thought(OPEN, CLOSE, opened))
    pairs = [*map(splitter.feed, pieces), splitter.close()]
    return "".join(r for r, _ in pairs), "".join(t for _, t in pairs)


CASES = [
    (False, "<think>\nHm.\n</think>\n\nHello", "Hm.\n", "Hello"),
    (False, "\n <think>Hm.</think>Hello", "Hm.", "Hello"),
    (False, "<think>\n\n</think>\n\nHello", "", "Hello"),
    (False, "<think></think>    indented", "", "    indented"),
    (False, "Hello <think>no</think>", "", "Hello <think>no</think>"),
    (False, "  Hello", "", "  Hello"),
    (False, "<thinking>", "", "<thinking>"),
    (False, "<thi", "", "<thi"),
    (False, " \n", "", " \n"),
    (False, "", "", ""),
    (False, "<think>never closed </thi", "never closed </thi", ""),
    (False, "<think>a</think>b<think>c</think>d", "a", "b<think>c</think>d"),
    (False, "<think>a < b <</think>c", "a < b <", "c"),
    (False, "<think>a</think>\n\n", "a", ""),
    (False, "</think>x", "", "</think>x"),
    (True, "\nHm.</think>\nHello", "Hm.", "Hello"),
    (True, "Hm. <think> again</think>Hello", "Hm. <think> again", "Hello"),
    (True, "</think>\n\nHello", "", "Hello"),
]


@pytest.mark.parametrize(("opened", "answer", "reasoning", "text"), CASES)
def test_whole_and_one_character_at_a_time(
    opened: bool, answer: str, reasoning: str, text: str
) -> None:
    assert split(opened, [answer]) == (reasoning, text)
    assert split(opened, list(answer)) == (reasoning, text)


PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<", "/", "th", "ink>", "\n", " ", "a", "", "</thi"]),
    max_size=12,
)


@given(st.booleans(), PIECES)
def test_pieces_do_not_matter(opened: bool, pieces: list[str]) -> None:
    answer = "".join(pieces)
    assert split(opened, pieces) == split(opened, [answer]) == split(opened, list(answer))


@given(PIECES)
def test_nothing_but_the_tags_and_their_newlines_is_lost(pieces: list[str]) -> None:
    answer = "".join(pieces)
    reasoning, text = split(False, pieces)
    bare = answer.replace("<think>", "", 1).replace("</think>", "", 1)
    parts = reasoning + text
    assert parts == answer or "".join(parts.split()) == "".join(bare.split())


def test_nothing_is_held_back_without_need() -> None:
    splitter = ThoughtSplitter(Thought(OPEN, CLOSE))
    assert splitter.feed("<think>") == ("", "")
    assert splitter.inside
    assert splitter.feed("a</") == ("a", "")
    assert splitter.feed("b") == ("</b", "")
    assert splitter.feed("</think>") == ("", "")
    assert not splitter.inside
    assert splitter.feed("\n") == ("", "")
    assert splitter.feed("x <") == ("", "x <")


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
