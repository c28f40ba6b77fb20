"""The pieces of an answer's text to events, and events to a whole answer."""

from typing import Literal

from .chat import (
    Answer,
    Choice,
    Done,
    Event,
    Failure,
    Finish,
    ReasoningDelta,
    TextDelta,
    TokenText,
    Usage,
)
from .parsers.think import State, ThinkSplitter

Thinking = Literal["no", "may", "open"]
FIRST_STATE = {"no": State.TEXT, "may": State.START, "open": State.OPENED}


class ChoiceOutput:
    """One choice of an answer; `feed` is called once a token, with the text it made certain.

    `thinking` says whether the model may open a reasoning block, or the prompt has opened one.
    Tokens whose text is held back or dropped travel with the next piece, so that none is lost.
    """

    def __init__(self, choice: int, thinking: Thinking) -> None:
        self.reasoning_tokens = 0
        self._choice = choice
        self._splitter = ThinkSplitter(FIRST_STATE[thinking])
        self._tokens: tuple[TokenText, ...] = ()

    def feed(self, text: str, tokens: tuple[TokenText, ...] = ()) -> list[Event]:
        before = self._splitter.inside
        reasoning, rest = self._splitter.feed(text)
        self.reasoning_tokens += before or self._splitter.inside
        self._tokens += tokens
        return self._events(reasoning, rest)

    def finish(self, reason: str, stop: str | None = None, text: str = "") -> list[Event]:
        """`text` is what the last tokens made certain only by being the last."""
        events = self._events(*self._splitter.feed(text))
        events += self._events(*self._splitter.close())
        if self._tokens:
            kind = ReasoningDelta if self._splitter.inside else TextDelta
            events.append(kind(self._choice, "", self._take_tokens()))
        events.append(Finish(self._choice, reason, stop))
        return events

    def _events(self, reasoning: str, text: str) -> list[Event]:
        events: list[Event] = []
        if reasoning:
            events.append(ReasoningDelta(self._choice, reasoning, self._take_tokens()))
        if text:
            events.append(TextDelta(self._choice, text, self._take_tokens()))
        return events

    def _take_tokens(self) -> tuple[TokenText, ...]:
        taken, self._tokens = self._tokens, ()
        return taken


class Collector:
    """Fed all events of an answer of `n` choices; a Failure raises its Refusal."""

    def __init__(self, n: int) -> None:
        self._text: list[list[str]] = [[] for _ in range(n)]
        self._reasoning: list[list[str]] = [[] for _ in range(n)]
        self._tokens: list[list[TokenText]] = [[] for _ in range(n)]
        self._ends: dict[int, Finish] = {}
        self._usage: Usage | None = None

    def add(self, event: Event) -> None:
        match event:
            case TextDelta(choice, text, tokens):
                self._text[choice].append(text)
                self._tokens[choice] += tokens
            case ReasoningDelta(choice, text, tokens):
                self._reasoning[choice].append(text)
                self._tokens[choice] += tokens
            case Finish(choice):
                self._ends[choice] = event
            case Done(usage):
                self._usage = usage
            case Failure(refusal):
                raise refusal

    def answer(self) -> Answer:
        """The whole answer, once Done has come."""
        assert self._usage is not None, "an answer is whole after Done"
        return Answer(tuple(map(self._choice, range(len(self._text)))), self._usage)

    def _choice(self, index: int) -> Choice:
        end = self._ends[index]
        return Choice(
            "".join(self._text[index]),
            "".join(self._reasoning[index]),
            end.reason,
            end.stop,
            tuple(self._tokens[index]),
        )
