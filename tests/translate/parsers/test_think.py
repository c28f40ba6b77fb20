"""The reasoning split, whole and in any pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.translate.parsers.think import State, ThinkSplitter


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
