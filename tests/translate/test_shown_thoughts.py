"""Thoughts apart, within the text, left out or sealed."""

from collections.abc import Sequence

import pytest

from bessemer.engine.request import AnswerMarks, Channels, Thought
from bessemer.translate.chat import (
    ArgumentsDelta,
    Event,
    Finish,
    ReasoningDelta,
    Shown,
    TextDelta,
    ThoughtSealed,
    ThoughtSigned,
    TokenText,
    ToolCallBegun,
)
from bessemer.translate.shown_thoughts import shown_thoughts

THINK = Thought("<think>", "</think>")
ENDING: Sequence[Event] = (Finish(0, "stop"),)


def through(shown: Shown, *events: Event, marks: AnswerMarks = THINK) -> list[Event]:
    way = shown_thoughts(shown, marks)
    assert way is not None
    return [out for event in events for out in way(event)]


def text(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize("thought", ["Hm.\n", "Hm."])
@pytest.mark.parametrize(
    ("marks", "open", "close"),
    [
        (THINK, "<think>", "</think>"),
        (Thought("[THINK]", "[/THINK]", "thought"), "[THINK]", "[/THINK]"),
        (Channels(), "<think>", "</think>"),
    ],
)
def test_thoughts_within_the_text(thought: str, marks: AnswerMarks, open: str, close: str) -> None:
    pieces = [ReasoningDelta(0, letter) for letter in thought]
    out = through("inline", *pieces, TextDelta(0, "So."), *ENDING, marks=marks)
    assert text(out) == f"{open}\nHm.\n{close}\n\nSo."
    assert out[-1] == ENDING[0] and not any(isinstance(e, ReasoningDelta) for e in out)


def test_a_thought_within_the_text_ends_before_a_call_too_and_not_where_it_is_cut() -> None:
    call = ToolCallBegun(0, 0, "a", "f"), ArgumentsDelta(0, 0, "{}")
    out = through("inline", ReasoningDelta(0, "Hm."), *call, *ENDING)
    assert text(out) == "<think>\nHm.\n</think>\n\n" and out[-3:] == [*call, *ENDING]
    assert text(through("inline", ReasoningDelta(0, "Hm."), *ENDING)) == "<think>\nHm."
    twice = ReasoningDelta(0, "a"), TextDelta(0, "b"), ReasoningDelta(0, "c"), TextDelta(0, "d")
    tags = "<think>\na\n</think>\n\nb<think>\nc\n</think>\n\nd"
    assert text(through("inline", *twice)) == tags


def test_tokens_go_with_their_text_or_not_at_all() -> None:
    token = TokenText("Hm", b"Hm", -1.0)
    (out,) = through("inline", ReasoningDelta(0, "Hm", (token,)))
    assert isinstance(out, TextDelta) and out.tokens == (token,)
    assert through("hidden", ReasoningDelta(0, "Hm", (token,)), *ENDING) == [*ENDING]


def test_sealed_thoughts_are_told_of_when_they_are_over() -> None:
    events = ReasoningDelta(0, "H"), ReasoningDelta(0, "m"), TextDelta(0, "So."), *ENDING
    assert through("sealed", *events) == [ThoughtSealed(0, "Hm"), TextDelta(0, "So."), *ENDING]
    assert through("sealed", *events[:1], *ENDING) == [ThoughtSealed(0, "H"), *ENDING]


def test_a_thought_that_another_server_signed_needs_no_seal_of_ours() -> None:
    signed = ThoughtSigned(0, "EqQB", origin="anthropic")
    events = ReasoningDelta(0, "Hm."), signed, TextDelta(0, "So."), *ENDING
    assert through("sealed", *events) == [signed, TextDelta(0, "So."), *ENDING]
    assert through("hidden", *events) == [TextDelta(0, "So."), *ENDING]


def test_apart_is_as_they_come() -> None:
    assert shown_thoughts("apart", THINK) is None and shown_thoughts("hidden", None) is None
