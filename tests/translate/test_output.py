"""Pieces of text to events, and events to an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.engine.request import Refusal
from bessemer.translate.chat import (
    Answer,
    Choice,
    Done,
    Event,
    Failure,
    Finish,
    Heartbeat,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenText,
    Usage,
)
from bessemer.translate.output import ChoiceOutput, Collector, Thinking


def token(text: str) -> TokenText:
    return TokenText(text, text.encode(), -1.0)


def run(thinking: Thinking, tokens: list[str], output: ChoiceOutput | None = None) -> list[Event]:
    output = output or ChoiceOutput(0, thinking)
    events = [e for text in tokens for e in output.feed(text, (token(text),))]
    return events + output.finish("stop")


def test_a_plain_answer() -> None:
    assert run("no", ["Hel", "lo"]) == [
        TextDelta(0, "Hel", (token("Hel"),)),
        TextDelta(0, "lo", (token("lo"),)),
        Finish(0, "stop"),
    ]


def test_tokens_of_dropped_text_travel_with_the_next_piece() -> None:
    names = ["<think>", "\n", "Hm", "</", "think>", "\n\n", "Hi"]
    assert run("may", names) == [
        ReasoningDelta(0, "Hm", tuple(map(token, names[:3]))),
        TextDelta(0, "Hi", tuple(map(token, names[3:]))),
        Finish(0, "stop"),
    ]


def test_tokens_without_text_at_the_end_are_not_lost() -> None:
    assert run("open", ["Hm", "</think>", "\n"])[1] == TextDelta(
        0, "", (token("</think>"), token("\n"))
    )
    assert run("open", ["\n"])[0] == ReasoningDelta(0, "", (token("\n"),))


def test_the_finish_carries_its_choice_and_stop() -> None:
    assert ChoiceOutput(3, "no").finish("length", None) == [Finish(3, "length")]
    assert ChoiceOutput(3, "no").finish("stop", "END")[-1] == Finish(3, "stop", "END")


def test_the_last_text_may_come_with_the_finish() -> None:
    output = ChoiceOutput(0, "open")
    output.feed("Hm")
    assert output.finish("length", text="\ufffd") == [
        ReasoningDelta(0, "\ufffd"),
        Finish(0, "length"),
    ]
    assert output.reasoning_tokens == 1


@pytest.mark.parametrize(
    ("thinking", "names", "count"),
    [
        ("no", ["<think>", "a", "</think>"], 0),
        ("may", ["a", "b"], 0),
        ("may", ["<think>", "a", "", "b", "</think>", "\n\n", "c"], 5),
        ("open", ["a", "b", "</think>", "c"], 3),
        ("open", ["a", "b"], 2),
    ],
)
def test_reasoning_tokens(thinking: Thinking, names: list[str], count: int) -> None:
    output = ChoiceOutput(0, thinking)
    run(thinking, names, output)
    assert output.reasoning_tokens == count


PIECES = st.lists(st.sampled_from(["<think>", "</think>", "<", "\n", "a", "", "</t"]), max_size=10)


@given(st.sampled_from(["no", "may", "open"]), PIECES)
def test_every_token_arrives_once_and_in_order(thinking: Thinking, names: list[str]) -> None:
    events = run(thinking, names)
    arrived = [t for e in events if isinstance(e, TextDelta | ReasoningDelta) for t in e.tokens]
    assert arrived == [token(name) for name in names]


def collected(events: list[Event], n: int) -> Answer:
    collector = Collector(n)
    for event in events:
        collector.add(event)
    return collector.answer()


def test_collecting() -> None:
    usage = Usage(3, 4, 1, 2)
    events: list[Event] = [
        Started(Usage(3, 0, 1)),
        ReasoningDelta(1, "Hm", (token("Hm"),)),
        TextDelta(0, "a", (token("a"),)),
        Heartbeat(),
        TextDelta(1, "x"),
        TextDelta(0, "b", (token("b"),)),
        Finish(1, "stop", "END"),
        Finish(0, "length"),
        Done(usage),
    ]
    first = Choice("ab", "", "length", None, (token("a"), token("b")))
    second = Choice("x", "Hm", "stop", "END", (token("Hm"),))
    assert collected(events, 2) == Answer((first, second), usage)


def test_a_failure_is_raised() -> None:
    refusal = Refusal(504, "timeout", "Too slow.")
    with pytest.raises(Refusal) as caught:
        Collector(1).add(Failure(refusal))
    assert caught.value is refusal
