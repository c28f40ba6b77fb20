"""The reasoning split, whole and in any pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.translate.chat import Chat, Message, ReasoningDelta, TextDelta, said
from bessemer.translate.parsers.parser import AnswerToken
from bessemer.translate.parsers.think import (
    State,
    ThinkParser,
    ThinkSplitter,
    opens_reasoning,
    think_parser,
)


def split(state: State, pieces: list[str]) -> tuple[str, str]:
    splitter = ThinkSplitter(state)
    found = [*map(splitter.feed, pieces), splitter.close()]
    return "".join(r for r, _ in found), "".join(t for _, t in found)


CASES = [
    (State.START, "<think>\nHm.\n</think>\n\nHello", "Hm.\n", "Hello"),
    (State.START, "\n <think>Hm.</think>Hello", "Hm.", "Hello"),
    (State.START, "<think>\n\n</think>\n\nHello", "", "Hello"),
    (State.START, "<think></think>    indented", "", "    indented"),
    (State.START, "Hello <think>no</think>", "", "Hello <think>no</think>"),
    (State.START, "  Hello", "", "  Hello"),
    (State.START, "<thinking>", "", "<thinking>"),
    (State.START, "<thi", "", "<thi"),
    (State.START, " \n", "", " \n"),
    (State.START, "", "", ""),
    (State.START, "<think>never closed </thi", "never closed </thi", ""),
    (State.START, "<think>a</think>b<think>c</think>d", "a", "b<think>c</think>d"),
    (State.START, "<think>a < b <</think>c", "a < b <", "c"),
    (State.START, "<think>a</think>\n\n", "a", ""),
    (State.START, "</think>x", "", "</think>x"),
    (State.OPENED, "\nHm.</think>\nHello", "Hm.", "Hello"),
    (State.OPENED, "Hm. <think> again</think>Hello", "Hm. <think> again", "Hello"),
    (State.OPENED, "</think>\n\nHello", "", "Hello"),
    (State.TEXT, "<think>Hm.</think>Hello", "", "<think>Hm.</think>Hello"),
]


@pytest.mark.parametrize(("state", "answer", "reasoning", "text"), CASES)
def test_whole_and_one_character_at_a_time(
    state: State, answer: str, reasoning: str, text: str
) -> None:
    assert split(state, [answer]) == (reasoning, text)
    assert split(state, list(answer)) == (reasoning, text)


PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<", "/", "th", "ink>", "\n", " ", "a", "", "</thi"]),
    max_size=12,
)


@given(st.sampled_from([State.START, State.OPENED, State.TEXT]), PIECES)
def test_pieces_do_not_matter(state: State, pieces: list[str]) -> None:
    whole = "".join(pieces)
    assert split(state, pieces) == split(state, [whole]) == split(state, list(whole))


@given(PIECES)
def test_nothing_but_the_tags_and_their_newlines_is_lost(pieces: list[str]) -> None:
    whole = "".join(pieces)
    reasoning, text = split(State.START, pieces)
    bare = whole.replace("<think>", "", 1).replace("</think>", "", 1)
    kept = reasoning + text
    assert kept == whole or "".join(kept.split()) == "".join(bare.split())


def test_nothing_is_held_back_without_need() -> None:
    splitter = ThinkSplitter(State.START)
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
    assert opens_reasoning(prompt) is opened


def test_going_on_in_a_thought() -> None:
    def opened(content: str, go_on: bool = True) -> bool:
        chat = Chat("m", (Message("assistant", said(content)),), continue_final=go_on)
        return opens_reasoning(f"assistant: {content}", chat)

    assert opened("<think>\nHm, so")
    assert not opened("<think>\nHm, so", go_on=False)
    assert not opened("<think>Hm</think>So")
    assert not opened("A <think> tag is")


def test_a_parser_starts_where_the_prompt_left_off() -> None:
    chat = Chat("m", ())
    opened, plain = think_parser(1, "a: <think>\n", chat), think_parser(1, "a:", chat)
    tokens = [AnswerToken(1, "Hm</think>"), AnswerToken(2, "", "<|x|>"), AnswerToken(3, "\nHi")]
    fed = [delta for token in tokens for delta in opened.feed(token)]
    assert fed == [ReasoningDelta(1, "Hm"), TextDelta(1, "Hi")] and not opened.close()
    fed = [delta for token in tokens for delta in plain.feed(token)]
    assert fed == [TextDelta(1, "Hm</think>"), TextDelta(1, "\nHi")]


def test_thought_and_text_of_one_token_come_in_their_order() -> None:
    parser = ThinkParser(0)
    assert parser.feed(AnswerToken(1, "<think>a</think>b")) == (
        ReasoningDelta(0, "a"),
        TextDelta(0, "b"),
    )
