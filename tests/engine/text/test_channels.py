"""Messages on channels are split whole, in characters and in any pieces; with codes as in text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.engine.request import Channels
from bessemer.engine.text.channels import ChannelSplitter
from bessemer.engine.text.specials import NONE, Specials

MARKS = Channels().marks
CODES = Specials(dict(enumerate(MARKS)), MARKS)
ANALYSIS, FINAL = "<|channel|>analysis<|message|>", "<|channel|>final<|message|>"
NEXT = "<|end|><|start|>assistant"


def split(pieces: list[str], begun: str = "", specials: Specials = NONE) -> tuple[str, str]:
    splitter = ChannelSplitter(Channels(begun), specials)
    pairs = [*map(splitter.feed, pieces), splitter.close()]
    return "".join(r for r, _ in pairs), specials.plain("".join(t for _, t in pairs))


CASES = [
    ("", f"{ANALYSIS}Hm.{NEXT}{FINAL}Hello there<|return|>", "Hm.", "Hello there"),
    ("", f"{ANALYSIS}Hm.{NEXT}{FINAL}Hello", "Hm.", "Hello"),
    ("", f"{FINAL}Hello<|return|>", "", "Hello"),
    ("", f"{ANALYSIS}a{NEXT}{ANALYSIS}b{NEXT}{FINAL}c", "ab", "c"),
    ("", f"{FINAL}One, {NEXT}{FINAL}two", "", "One, two"),
    ("", f"{ANALYSIS}Hm. {FINAL}Hi", "Hm. ", "Hi"),
    ("", f"{ANALYSIS}Hm.<|end|>{FINAL}Hi", "Hm.", "Hi"),
    ("", f"{ANALYSIS}Hm.<|start|>assistant{FINAL}Hi", "Hm.", "Hi"),
    ("", f"{ANALYSIS}Hm.<|end|>assistant{FINAL}Hi", "Hm.", "Hi"),
    # A preamble to calls is for the reader, and so is a call that nobody asked for.
    (
        "",
        f"{ANALYSIS}a{NEXT}<|channel|>commentary<|message|>I look.{NEXT}{FINAL}c",
        "a",
        "I look.c",
    ),
    ("", "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>", "", "{}"),
    ("", "<|channel|>commentary to=functions.f<|constrain|>json\n<|message|>{}", "", "{}"),
    ("", " to=functions.f<|channel|>commentary json<|message|>{}<|call|>", "", "{}"),
    ("", "<|channel|>analysis to=browser.search code<|message|>{}<|call|>", "{}", ""),
    (
        "",
        f"{FINAL}a<|end|><|start|>functions.f to=assistant<|channel|>commentary<|message|>b",
        "",
        "ab",
    ),
    ("", "<|message|>Hi", "", "Hi"),
    ("", f"<|start|>assistant{FINAL}Hi", "", "Hi"),
    # Cut anywhere: a head is never shown.
    ("", "<|channel|>", "", ""),
    ("", "<|channel|>analy", "", ""),
    ("", "<|channel|>analysis to=f", "", ""),
    ("", f"{ANALYSIS}Hm.<|end|><|start|>", "Hm.", ""),
    ("", f"{ANALYSIS}Hm.{NEXT}", "Hm.", ""),
    ("", f"{ANALYSIS}Hm.{NEXT}<|channel|>fin", "Hm.", ""),
    ("", "", "", ""),
    # Malformed heads: what is no head is said.
    ("", "Hello there", "", "Hello there"),
    ("", "  Hello", "", "  Hello"),
    ("", "to be or not", "", "to be or not"),
    ("", "<|channel|>final Hello there<|return|>", "", "Hello there"),
    ("", "<|channel|>analysis Hm then<|end|><|start|>assistant<|message|>Hi", "Hm then", "Hi"),
    ("", f"{FINAL}Hi<|message|> you<|constrain|>!", "", "Hi you!"),
    ("", "<|channel|><|message|>Hi", "", "Hi"),
    ("", "<|channel|>musing<|message|>Hi", "", "Hi"),
    ("", f"{FINAL}Hi<|return|> there, you", "", "Hithere, you"),
    # What may begin a mark is held back, and at the end it is none.
    ("", f"{FINAL}Hi<|en", "", "Hi<|en"),
    ("", f"{ANALYSIS}Hm<|en", "Hm<|en", ""),
    # The prompt may hold the head.
    (ANALYSIS, f"Hm.{NEXT}{FINAL}Hi", "Hm.", "Hi"),
    (FINAL, "Hi<|return|>", "", "Hi"),
    ("<|channel|>analysis", f"<|message|>Hm.{NEXT}{FINAL}Hi", "Hm.", "Hi"),
    (f"{FINAL}", " analysis", "", " analysis"),
]


@pytest.mark.parametrize(("begun", "answer", "reasoning", "text"), CASES)
def test_whole_and_one_character_at_a_time(
    begun: str, answer: str, reasoning: str, text: str
) -> None:
    for specials in (NONE, CODES):
        spelled = specials.encode(answer)
        assert split([spelled], begun, specials) == (reasoning, text)
        assert split(list(spelled), begun, specials) == (reasoning, text)


PIECES = st.lists(
    st.sampled_from(
        [*MARKS, "analysis", "final", "assistant", " to=f.g", "a ", "Hi", "json", "\n"]
    ),
    max_size=10,
)


@given(PIECES)
def test_pieces_do_not_matter(pieces: list[str]) -> None:
    for specials in (NONE, CODES):
        spelled = [specials.encode(piece) for piece in pieces]
        answer = "".join(spelled)
        assert split(spelled, "", specials) == split(list(answer), "", specials)


def test_a_mark_that_is_only_spelled_is_text() -> None:
    answer = [CODES.encode(FINAL), "Say <|end|> and <|channel|>analysis<|message|>."]
    assert split(answer, "", CODES)[1] == answer[1]


def test_what_is_inside() -> None:
    splitter = ChannelSplitter(Channels())
    inside = []
    for piece in (ANALYSIS, "a", "<|end|>", "<|start|>assistant", FINAL, "b"):
        splitter.feed(piece)
        inside.append(splitter.inside)
    assert inside == [True, True, False, False, False, False]
    assert ChannelSplitter(Channels(ANALYSIS)).inside
    assert not ChannelSplitter(Channels(FINAL)).inside


def test_nothing_is_held_back_without_need() -> None:
    splitter = ChannelSplitter(Channels())
    splitter.feed(FINAL)
    assert splitter.feed("Hel") == ("", "Hel")
    assert splitter.feed("<|e") == ("", "")
    assert splitter.feed("x") == ("", "<|ex")
    plain = ChannelSplitter(Channels())
    assert plain.feed("Hello") == ("", "Hello")


@pytest.mark.parametrize("head", ["<|channel|>{}", "<|channel|>final to={}", "<|start|>fun.{}"])
def test_a_head_without_end_is_text_at_last(head: str) -> None:
    text = head.format("a" * 3000)
    splitter = ChannelSplitter(Channels())
    told = [splitter.feed(character)[1] for character in text]
    assert splitter._head is None and "a" * 1999 in "".join(told)
    assert split([text]) == split(list(text)) == ("", "".join(told))
