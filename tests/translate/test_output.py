"""Tokens of a choice to events, and events to an answer."""

from collections.abc import Callable, Sequence
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.engine.request import Refusal, Thought
from bessemer.engine.text.answer_text import AnswerText, make_splitter
from bessemer.engine.text.detokenizer import AnswerDetokenizer
from bessemer.engine.text.specials import NONE, Specials
from bessemer.engine.text.stops import StopMatcher
from bessemer.translate.chat import (
    Answer,
    AnswerChoice,
    AnswerStarted,
    ArgumentsDelta,
    Best,
    Delta,
    Done,
    Event,
    Failure,
    Finish,
    Heartbeat,
    PromptLogprobs,
    ReasoningDelta,
    TextDelta,
    TokenText,
    ToolCall,
    ToolCallBegun,
    Usage,
)
from bessemer.translate.output import HELD, LARGE, ChoiceOutput, Collector
from bessemer.translate.parsers.parser import (
    AnswerParser,
    AnswerToken,
    PlainParser,
    SplitParser,
)

OPEN, CLOSE = "<think>", "</think>"
Thinking = Literal["no", "may", "open"]
PARSERS: dict[Thinking, Callable[[int], AnswerParser]] = {
    "no": PlainParser,
    "may": lambda choice: SplitParser(choice, Thought(OPEN, CLOSE)),
    "open": lambda choice: SplitParser(choice, Thought(OPEN, CLOSE, "thought")),
}


class Spelled:
    """A detokenizer of made-up tokens: the number of a token is its place in the list of texts."""

    whole = True

    def __init__(self, texts: Sequence[str], rest: str = "") -> None:
        self._texts = texts
        self._rest = rest

    def add(self, token: int) -> str:
        return self._texts[token]

    def flush(self) -> str:
        return self._rest


def choice(
    thinking: Thinking,
    texts: Sequence[str],
    *stops: str,
    include: bool = False,
    min_tokens: int = 0,
    number: int = 0,
    rest: str = "",
) -> ChoiceOutput:
    detokenizer, matcher = Spelled(texts, rest), StopMatcher(stops, include)
    return ChoiceOutput(number, PARSERS[thinking](number), detokenizer, matcher, NONE, min_tokens)


def token(text: str, offset: int = 0) -> TokenText:
    return TokenText(text, text.encode(), -1.0, (), offset)


def tokens(*names: str) -> tuple[TokenText, ...]:
    """Tokens of a text, from its start."""
    starts = [len("".join(names[:at])) for at in range(len(names))]
    return tuple(map(token, names, starts))


def run(thinking: Thinking, names: list[str], output: ChoiceOutput | None = None) -> list[Event]:
    output = output or choice(thinking, names)
    events = [e for at, text in enumerate(names) for e in output.feed(at, (token(text),))]
    return [*events, *output.finish("stop")]


def spoken(output: ChoiceOutput, count: int) -> tuple[str, str]:
    """Return thought and text of so many tokens, one after the other."""
    events = [e for at in range(count) for e in output.feed(at)]
    events += output.finish("stop")
    thought = "".join(e.text for e in events if isinstance(e, ReasoningDelta))
    return thought, "".join(e.text for e in events if isinstance(e, TextDelta))


def test_a_plain_answer() -> None:
    assert run("no", ["Hel", "lo"]) == [
        TextDelta(0, "Hel", (token("Hel"),)),
        TextDelta(0, "lo", (token("lo", 3),)),
        Finish(0, "stop"),
    ]


def test_text_alone_where_nothing_else_is_asked_for() -> None:
    output = choice("no", ["Hel", "lo"])
    told = [*output.feed(0), *output.feed(1), *output.finish("stop")]
    assert told == [TextDelta(0, "Hel"), TextDelta(0, "lo"), Finish(0, "stop")]


def test_tokens_of_dropped_text_travel_with_the_next_piece() -> None:
    names = ["<think>", "\n", "Hm", "</", "think>", "\n\n", "Hi"]
    assert run("may", names) == [
        ReasoningDelta(0, "Hm", tokens(*names)[:3]),
        TextDelta(0, "Hi", tokens(*names)[3:]),
        Finish(0, "stop"),
    ]


def test_tokens_without_text_at_the_end_are_not_lost() -> None:
    assert run("open", ["Hm", "</think>", "\n"])[1] == TextDelta(
        0, "", tokens("Hm", "</think>", "\n")[1:]
    )
    assert run("open", ["\n"])[0] == ReasoningDelta(0, "", (token("\n"),))


@pytest.mark.parametrize(("thinking", "kind"), [("no", TextDelta), ("open", ReasoningDelta)])
def test_very_many_tokens_do_not_wait_for_their_text(thinking: Thinking, kind: type) -> None:
    """Text that may begin a stop string is held back, though its tokens are told."""
    names = ["x"] * 100 if thinking == "no" else [""] * 100
    output = choice(thinking, names, "x" * 1000)
    events = run(thinking, names, output)
    told = [e for e in events if isinstance(e, TextDelta | ReasoningDelta)]
    assert max(len(e.tokens) for e in told) <= HELD
    assert [t.text for e in told for t in e.tokens] == names
    assert [type(e) for e in told if e.tokens] == [kind] * (100 // HELD + 1)
    assert "".join(e.text for e in told) == "".join(names)


@pytest.mark.parametrize(
    ("event", "large"),
    [
        (TextDelta(1, "a" * (LARGE - 1)), False),
        (ReasoningDelta(1, "a" * LARGE), True),
        (TextDelta(1, "a", tokens("a")), True),
        (PromptLogprobs(1, ((),)), True),
    ],
)
def test_a_large_answer_is_let_go_of_once_it_was_taken(event: Event, large: bool) -> None:
    collector = Collector(2)
    for each in (event, Finish(0, "stop"), Finish(1, "stop"), Done(Usage(1, 1))):
        assert not collector.over
        collector.add(each)
    assert collector.over and collector.large == large
    answer = collector.answer()
    collector.clear()
    assert [len(c.tokens) + len(c.prompt) for c in collector.answer().choices] == [0, 0]
    assert answer.choices[1].tokens == getattr(event, "tokens", ()) or answer.choices[1].prompt


def test_the_finish_carries_its_choice_and_stop() -> None:
    assert choice("no", [], number=3).finish("length", None) == [Finish(3, "length")]
    assert choice("no", [], number=3).finish("stop", "END")[-1] == Finish(3, "stop", "END")


def test_the_last_text_may_come_with_the_finish() -> None:
    output = choice("open", ["Hm"], rest="\ufffd")
    output.feed(0)
    assert output.finish("length") == [
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
    output = choice(thinking, names)
    run(thinking, names, output)
    assert output.reasoning_tokens == count


@pytest.mark.parametrize(
    ("thinking", "answer", "stops", "thought", "text", "stop"),
    [
        ("no", "one two STOP three", ("STOP",), "", "one two ", "STOP"),
        ("no", "one two STO", ("STOP",), "", "one two STO", None),
        ("no", "abcabd", ("abd", "bca"), "", "a", "bca"),
        ("no", "<think>Hm STOP</think>", ("STOP",), "", "<think>Hm ", "STOP"),
        ("may", "<think>Hm.</think>\n\nHi STOP there", ("STOP",), "Hm.", "Hi ", "STOP"),
        ("may", "<think>Hm S</think>TOP it", ("STOP",), "Hm S", "TOP it", None),
        ("may", "<think>Hm <</think>Hi", ("<a",), "Hm <", "Hi", None),
        ("may", "<thinSTOP", ("STOP",), "", "<thin", "STOP"),
        ("may", "<think>Hm\n</think>\nHi\nyou", ("\n",), "Hm\n", "Hi", "\n"),
        ("open", "Hm STOP more</think>Hi STOP", ("STOP",), "Hm STOP more", "Hi ", "STOP"),
        ("open", "Hm</think>Hi", ("</think>",), "Hm", "Hi", None),
    ],
)
def test_stop_strings_are_looked_for_in_text_and_in_no_thought(
    thinking: Thinking,
    answer: str,
    stops: tuple[str, ...],
    thought: str,
    text: str,
    stop: str | None,
) -> None:
    """Cut the answer into tokens at any place; the worker stops where the text does."""
    marks = Thought(OPEN, CLOSE, "thought" if thinking == "open" else "start")
    for pieces in (
        [answer],
        list(answer),
        [answer[at : at + 3] for at in range(0, len(answer), 3)],
    ):
        assert spoken(choice(thinking, pieces, *stops), len(pieces)) == (thought, text)
        splitter = None if thinking == "no" else make_splitter(marks)
        worker = AnswerText(
            AnswerDetokenizer(Spelled(pieces), NONE), StopMatcher(stops), 0, splitter, None
        )
        for at in range(len(pieces)):
            worker.add(at)
        assert worker.stop == stop


def test_a_stop_string_may_be_shown_and_may_come_too_early_to_count() -> None:
    texts = ["a", "X", "b", "X", "c"]
    assert spoken(choice("no", texts, "X", include=True), 5) == ("", "aX")
    assert spoken(choice("no", texts, "X", min_tokens=3), 5) == ("", "aXb")
    assert spoken(choice("no", texts, "X", min_tokens=2), 5) == ("", "a")


class Watching(PlainParser):
    """A parser that remembers what it was shown, and makes a call of the token <call>."""

    def __init__(self, choice: int) -> None:
        super().__init__(choice)
        self.seen: list[AnswerToken] = []

    def feed(self, token: AnswerToken) -> Sequence[Delta]:
        self.seen.append(token)
        if token.special == "<call>":
            return (ToolCallBegun(0, 0, "call_1", "f"), ArgumentsDelta(0, 0, "{}"))
        return super().feed(token)


def test_a_parser_sees_special_tokens_by_name_hidden_ones_too() -> None:
    parser, names = Watching(0), {1: "<call>", 2: "<end>"}
    output = ChoiceOutput(
        0, parser, Spelled(["aS", "", ""]), StopMatcher(["STOP"]), Specials(names)
    )
    events = [
        *output.feed(0),
        *output.feed(1),
        *output.feed(2, hidden=True),
        *output.finish("stop"),
    ]
    assert parser.seen == [
        AnswerToken(0, "aS"),
        AnswerToken(1, "", "<call>"),
        AnswerToken(2, "", "<end>"),
        AnswerToken(None, ""),
    ]
    begun, arguments = ToolCallBegun(0, 0, "call_1", "f"), ArgumentsDelta(0, 0, "{}")
    # What was held back for a stop string comes before the call that follows it.
    assert events == [
        TextDelta(0, "a"),
        TextDelta(0, "S"),
        begun,
        arguments,
        Finish(0, "stop"),
    ]


PIECES = st.lists(st.sampled_from(["<think>", "</think>", "<", "\n", "a", "", "</t"]), max_size=10)


@given(st.sampled_from(["no", "may", "open"]), PIECES)
def test_every_token_arrives_once_and_in_order(thinking: Thinking, names: list[str]) -> None:
    events = run(thinking, names)
    arrived = [t for e in events if isinstance(e, TextDelta | ReasoningDelta) for t in e.tokens]
    assert arrived == [*tokens(*names)]


def collected(events: list[Event], n: int) -> Answer:
    collector = Collector(n)
    for event in events:
        collector.add(event)
    return collector.answer()


def test_collecting() -> None:
    usage = Usage(3, 4, 1, 2)
    events: list[Event] = [
        AnswerStarted(Usage(3, 0, 1)),
        ReasoningDelta(1, "Hm", (token("Hm"),)),
        TextDelta(0, "a", (token("a"),)),
        Heartbeat(),
        TextDelta(1, "x"),
        TextDelta(0, "b", (token("b"),)),
        Finish(1, "stop", "END"),
        Finish(0, "length"),
        Done(usage),
    ]
    first = AnswerChoice("ab", "", "length", None, (token("a"), token("b")))
    second = AnswerChoice("x", "Hm", "stop", "END", (token("Hm"),))
    assert collected(events, 2) == Answer((first, second), usage)


def test_calls_are_collected_with_their_arguments() -> None:
    events: list[Event] = [
        ToolCallBegun(0, 0, "call_1", "f"),
        ArgumentsDelta(0, 0, '{"a"'),
        ArgumentsDelta(0, 0, ":1}"),
        ToolCallBegun(0, 1, "call_2", "g"),
        Finish(0, "tool_calls"),
        Done(Usage(1, 2)),
    ]
    calls = (ToolCall("call_1", "f", '{"a":1}'), ToolCall("call_2", "g", ""))
    assert collected(events, 1) == Answer(
        (AnswerChoice("", "", "tool_calls", None, (), calls),), Usage(1, 2)
    )


def test_a_failure_is_raised() -> None:
    refusal = Refusal(504, "timeout", "Too slow.")
    with pytest.raises(Refusal) as caught:
        Collector(1).add(Failure(refusal))
    assert caught.value is refusal


@pytest.mark.parametrize("logprobs", [False, True])
def test_the_likeliest_of_several_answers_to_each_prompt_by_the_mean_of_a_token(
    logprobs: bool,
) -> None:
    collector = Collector(6, 3, Best(2, logprobs))
    told = {0: [-1.0, -3.0], 1: [-2.5], 2: [-0.5, -0.5, -0.5], 3: [-1.0], 4: [], 5: [-9.0]}
    for choice, each in told.items():
        tokens = tuple(TokenText("x", b"x", logprob) for logprob in each)
        collector.add(TextDelta(choice, str(choice), tokens))
        collector.add(Finish(choice, "stop"))
    collector.add(Done(Usage(3, 9)))
    choices = collector.answer().choices
    assert [choice.text for choice in choices] == ["2", "0", "4", "3"]
    assert [len(choice.tokens) for choice in choices] == ([3, 2, 0, 1] if logprobs else [0] * 4)
