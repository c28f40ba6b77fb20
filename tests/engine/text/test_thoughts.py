"""The thought of an answer is split from its text, whole and in any pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.engine.request import Thought
from bessemer.engine.text.specials import NONE, Specials
from bessemer.engine.text.thoughts import ThoughtSplitter

OPEN, CLOSE = "<think>", "</think>"


def split(opened: bool, pieces: list[str]) -> tuple[str, str]:
    splitter = ThoughtSplitter(Thought(OPEN, CLOSE, "thought" if opened else "start"))
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


RESPONSE = Thought("<think>", "</think>", "start", "<response>", "</response>")
IN_TEXT = Thought("<think>", "</think>", "text", "<response>", "</response>")
AROUND = [
    (RESPONSE, "<think>\nHm\n</think>\n<response>\nHi\n</response>\n", "Hm\n", "Hi"),
    (RESPONSE, "<think>Hm</think><response>Hi</response>!", "Hm", "Hi!"),
    (RESPONSE, "<think>Hm</think>\n\nHi </response>", "Hm", "Hi </response>"),
    (RESPONSE, "<response>Hi\n\nyou</response>", "", "Hi\n\nyou"),
    (RESPONSE, "<response>a\n</respond>", "", "a\n</respond>"),
    (RESPONSE, "<response>a\n\n", "", "a\n\n"),
    (RESPONSE, "<think>Hm</think>\n<resp", "Hm", "<resp"),
    (RESPONSE, "<res> Hi", "", "<res> Hi"),
    (IN_TEXT, "lo\n</response>", "", "lo"),
    (Thought("A:", "B:", "start", "", "E."), "A:\nHm B:\nHi\nE.", "Hm ", "Hi"),
]


def split_by(thought: Thought, pieces: list[str], specials: Specials = NONE) -> tuple[str, str]:
    splitter = ThoughtSplitter(thought, specials)
    pairs = [*map(splitter.feed, pieces), splitter.close()]
    return "".join(r for r, _ in pairs), "".join(t for _, t in pairs)


@pytest.mark.parametrize(("thought", "answer", "reasoning", "text"), AROUND)
def test_marks_around_the_text(thought: Thought, answer: str, reasoning: str, text: str) -> None:
    assert split_by(thought, [answer]) == (reasoning, text)
    assert split_by(thought, list(answer)) == (reasoning, text)


CODES = Specials(dict(enumerate(RESPONSE.marks)), RESPONSE.marks)
OPENED, CLOSED, BEGUN, ENDED = map(CODES.encode, RESPONSE.marks)


@pytest.mark.parametrize(
    ("answer", "reasoning", "text"),
    [
        (f"{OPENED}\nHm </think> it{CLOSED}\nHi", "Hm </think> it", "Hi"),
        ("<think>Hm</think>Hi", "", "<think>Hm</think>Hi"),
        (f"One{OPENED}Hm{CLOSED}two{OPENED}so{CLOSED}", "Hmso", "Onetwo"),
        (f"{OPENED}Hm{CLOSED}\n{BEGUN}Hi </response>\n{ENDED}", "Hm", f"Hi </response>{ENDED}"),
    ],
)
def test_marks_that_are_special_tokens_are_nothing_else(
    answer: str, reasoning: str, text: str
) -> None:
    assert split_by(RESPONSE, [answer], CODES) == (reasoning, text)
    assert split_by(RESPONSE, list(answer), CODES) == (reasoning, text)


def test_a_mark_may_be_a_special_token_and_text() -> None:
    gemma = Thought("<|channel>thought", "<channel|>")
    codes = Specials({100: "<|channel>", 101: "<channel|>"}, gemma.marks)
    answer = codes.encode("<|channel>thought\nHm.\n<channel|>Hi")
    assert split_by(gemma, list(answer), codes) == ("Hm.\n", "Hi")
    assert split_by(gemma, list("channel>thought"), codes) == ("", "channel>thought")
    assert split_by(gemma, [codes.encode("<|channel>thou")], codes) == ("", "")


@pytest.mark.parametrize("space", ["\n", " \n"])
def test_white_space_without_end_is_text(space: str) -> None:
    for count in (500, 1000, 1001, 3000):
        text = (space * count)[:count]
        found = ("Hm.", "x") if count <= 1000 else ("", f"{text}<think>Hm.</think>x")
        assert split(False, [f"{text}<think>Hm.</think>x"]) == found
        assert split(False, list(f"{text}<think>Hm.</think>x")) == found
        at_once = ThoughtSplitter(Thought(OPEN, CLOSE)).feed(text)
        assert at_once == ("", "" if count <= 1000 else text)


def test_newlines_without_end_before_the_mark_of_the_end_are_text() -> None:
    thought = Thought("<t>", "</t>", "text", "<r>", "</r>")
    for pieces in (["a", "\n" * 3000, "</r>", "b"], list("a" + "\n" * 3000 + "</r>b")):
        splitter = ThoughtSplitter(thought)
        texts = [splitter.feed(piece)[1] for piece in pieces]
        assert "".join(texts) + splitter.close()[1] == "a" + "\n" * 2000 + "b"


def test_whether_a_text_is_held_and_whether_a_thought_may_still_come() -> None:
    splitter = ThoughtSplitter(Thought(OPEN, CLOSE))
    for piece, holds, settled in (
        ("<thi", True, False),
        ("nk>Hm", False, False),
        ("</", True, False),
        ("a", False, False),
        (CLOSE, False, False),
        ("\nHi", False, True),
        ("<think>", False, True),
    ):
        splitter.feed(piece)
        assert (splitter.holds, splitter.settled) == (holds, settled), piece
    special = Specials({7: OPEN, 8: CLOSE}, (OPEN, CLOSE))
    again = ThoughtSplitter(Thought(OPEN, CLOSE, "text"), special)
    again.feed("Hi")
    assert not again.settled, "a special token may open another thought"
