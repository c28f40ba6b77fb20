"""Tests of larger pieces: nothing is lost, and no more goes out at once than was asked for."""

import random

import pytest

from bessemer.translate.chat import (
    ArgumentsDelta,
    Event,
    Finish,
    ReasoningDelta,
    TextDelta,
    TokenText,
    ToolCallBegun,
)
from bessemer.translate.chunks import Chunks, joined

TOKEN = TokenText("x", b"x", -1.0)
EVENTS: list[list[Event]] = [
    [ReasoningDelta(0, "a")], [ReasoningDelta(0, "b", (TOKEN,))], [], [TextDelta(0, "c")],
    [TextDelta(0, "d", (TOKEN,)), TextDelta(0, "e", (TOKEN,))], [ToolCallBegun(0, 0, "i", "f")],
    [ArgumentsDelta(0, 0, "{")], [ArgumentsDelta(0, 0, "}"), ToolCallBegun(0, 1, "j", "g")],
    [ArgumentsDelta(0, 1, "{}")], [TextDelta(0, "h")], [Finish(0, "stop")],
]  # fmt: skip
WHOLE: list[Event] = [
    ReasoningDelta(0, "ab", (TOKEN,)), TextDelta(0, "cde", (TOKEN, TOKEN)),
    ToolCallBegun(0, 0, "i", "f"), ArgumentsDelta(0, 0, "{}"), ToolCallBegun(0, 1, "j", "g"),
    ArgumentsDelta(0, 1, "{}"), TextDelta(0, "h"), Finish(0, "stop"),
]  # fmt: skip


@pytest.mark.parametrize("size", range(1, len(EVENTS) + 2))
def test_pieces_have_so_many_tokens(size: int) -> None:
    """R4.4: stream_chunk_size is tokens of a piece."""
    chunks = Chunks(size)
    out = [chunks.take(events, 1, events is EVENTS[-1]) for events in EVENTS]
    due = [at for at in range(len(EVENTS)) if (at + 1) % size == 0 or at == len(EVENTS) - 1]
    assert [at for at, each in enumerate(out) if each] == [
        at for at in due if size > 1 or EVENTS[at]
    ]
    assert [*joined(event for each in out for event in each)] == WHOLE


def test_a_step_of_several_tokens_and_an_end_without_any() -> None:
    chunks = Chunks(4)
    assert chunks.take([TextDelta(0, "a")], 3, False) == []
    assert chunks.take([TextDelta(0, "b")], 3, False) == [TextDelta(0, "ab")]
    assert chunks.take([], 1, False) == []
    assert chunks.take([Finish(0, "length")], 0, True) == [Finish(0, "length")]


def test_what_is_cut_anywhere_is_the_same_once_joined() -> None:
    dice = random.Random(5)
    for _ in range(50):
        text = [ReasoningDelta(0, letter) for letter in "thought"]
        events: list[Event] = [*text, *(TextDelta(0, letter) for letter in "answer")]
        chunks, out = Chunks(dice.randint(1, 9)), list[Event]()
        while events:
            step = dice.randint(0, 3)
            out += chunks.take(events[:step], step, len(events) <= step)
            events = events[step:]
        assert [*joined(out)] == [ReasoningDelta(0, "thought"), TextDelta(0, "answer")]
