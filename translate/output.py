"""An answer's output: its tokens become events, its events a whole answer."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import fmean
from typing import Any

from msgspec import json, structs

from ..engine.text.detokenizer import AnswerDetokenizer, Detokenizer
from ..engine.text.specials import NONE, Specials
from ..engine.text.stops import StopMatcher
from .chat import (
    Answer,
    AnswerChoice,
    ArgumentsDelta,
    Best,
    Delta,
    Done,
    Event,
    Failure,
    Finish,
    PromptLogprobs,
    RankedToken,
    ReasoningDelta,
    TextDelta,
    ThoughtSealed,
    ThoughtSigned,
    TokenText,
    ToolCall,
    ToolCallBegun,
)
from .parsers.parser import AnswerParser, AnswerToken
from .parts import SignedThought

LARGE = 2**18  # characters of an answer; fewer are encoded within a millisecond
HELD = 16  # tokens with log probabilities that wait for a text to travel with


class ChoiceOutput:
    """One choice of an answer: its tokens become text, are parsed, and end at a stop string.

    Stop strings are looked for in text, from the token number `min_tokens` on, and in thoughts only
    if they are to `stop_in_reasoning`; a parser sees special tokens by their names. Tokens whose
    text is held back or dropped travel with the next piece, so that none is lost, or go ahead where
    they are many. `position` is where the answer begins, in characters.
    """

    def __init__(
        self,
        choice: int,
        parser: AnswerParser,
        detokenizer: Detokenizer,
        stops: StopMatcher,
        specials: Specials = NONE,
        min_tokens: int = 0,
        stop_in_reasoning: bool = False,
        position: int = 0,
    ) -> None:
        self.reasoning_tokens = 0
        self._choice = choice
        self._parser = parser
        self._detokenizer = AnswerDetokenizer(detokenizer, specials)
        self._specials = specials
        self._stops = stops if not stop_in_reasoning else StopMatcher(())
        self._early = stops if stop_in_reasoning else None  # what stops before it is parsed
        self._exempt = min_tokens - 1  # tokens to come that no stop string may end
        self._position = position
        self._tokens: list[TokenText] = []

    def feed(
        self, token: int, shown: tuple[TokenText, ...] = (), hidden: bool = False
    ) -> Sequence[Event]:
        """Return the events that the next token makes certain; `shown` is it with its logprobs.

        A `hidden` one, such as an end of sequence, is seen by the parser, and no part of the text.
        """
        parser = self._parser
        before = parser.reasoning
        text = self._detokenizer.add(token, hidden)
        self._exempt -= 1
        exempt = self._exempt >= 0
        if shown:
            self._tokens += [structs.replace(t, offset=self._position) for t in shown]
            self._position += len(self._specials.plain(text))
        if self._early is not None and not exempt:
            text = self._early.add(text)
        deltas = parser.feed(AnswerToken(token, text, self._specials.name(token)))
        self.reasoning_tokens += not hidden and (before or parser.reasoning)
        if not (self._stops.stops or self._tokens or self._specials.codes):
            return deltas
        events = self._read(deltas, exempt)
        return [*events, *self._untold()] if len(self._tokens) >= HELD else events

    def finish(self, reason: str, stop: str | None = None) -> Sequence[Event]:
        """Return the rest of the choice, with all that was held back; it may have a stop string."""
        rest = self._detokenizer.flush()
        if self._early is not None:
            rest = self._early.add(rest) + self._early.flush()
        events = self._read([*self._parser.feed(AnswerToken(None, rest)), *self._parser.close()])
        events += self._text(self._stops.flush())
        events += self._untold()
        if stop is None and (stop := (self._early or self._stops).matched) is not None:
            reason = "stop"
        if reason == "stop" and stop is None and self._parser.calls:
            reason = "tool_calls"
        events.append(Finish(self._choice, reason, stop))
        return events

    def _read(self, deltas: Sequence[Delta], exempt: bool = False) -> list[Event]:
        """Return the deltas as the client reads them, up to the first stop string, with tokens."""
        events: list[Event] = []
        for delta in deltas:
            if isinstance(delta, TextDelta):
                events += self._text(delta.text if exempt else self._stops.add(delta.text))
                continue
            events += self._text(self._stops.flush())  # what may have begun a stop string
            if isinstance(delta, ArgumentsDelta):
                events.append(structs.replace(delta, text=self._specials.plain(delta.text)))
            elif not isinstance(delta, ReasoningDelta):
                events.append(delta)
            elif text := self._specials.plain(delta.text):
                events.append(ReasoningDelta(self._choice, text, self._take_tokens()))
        return events

    def _text(self, text: str) -> Iterable[Event]:
        text = self._specials.plain(text)
        return (TextDelta(self._choice, text, self._take_tokens()),) if text else ()

    def _untold(self) -> Iterable[Event]:
        """Return the tokens that no text has taken along."""
        kind = ReasoningDelta if self._parser.reasoning else TextDelta
        return (kind(self._choice, "", self._take_tokens()),) if self._tokens else ()

    def _take_tokens(self) -> tuple[TokenText, ...]:
        tokens, self._tokens = self._tokens, []
        return tuple(tokens)


def likeliest(choices: Sequence[AnswerChoice], best: Best) -> Sequence[AnswerChoice]:
    """Return the best of some answers to one prompt: by the mean log probability of their tokens.

    An answer of no tokens is certain.
    """
    ranked = sorted(choices, key=_mean_logprob, reverse=True)[: best.n]
    return ranked if best.logprobs else [replace(choice, tokens=()) for choice in ranked]


def _mean_logprob(choice: AnswerChoice) -> float:
    logprobs = [token.logprob for token in choice.tokens if token.logprob is not None]
    return fmean(logprobs) if logprobs else 0.0


class Collector:
    """A collector of all events of an answer of `n` choices; a Failure raises its Refusal.

    With `best`, those of each prompt's `each` choices are in the answer that are the likeliest.
    """

    def __init__(self, n: int, each: int = 1, best: Best | None = None) -> None:
        self._each, self._best = each, best
        self._text: list[list[str]] = [[] for _ in range(n)]
        self._reasoning: list[list[str]] = [[] for _ in range(n)]
        self._sealed: list[list[str]] = [[] for _ in range(n)]
        self._signed: list[list[SignedThought]] = [[] for _ in range(n)]
        self._unsigned = [0] * n  # the first piece of the thought that is not signed yet
        self._tokens: list[list[TokenText]] = [[] for _ in range(n)]
        self._calls: list[list[ToolCallBegun]] = [[] for _ in range(n)]
        self._arguments: dict[tuple[int, int], list[str]] = defaultdict(list)
        self._prompts: list[list[tuple[RankedToken, ...]]] = [[] for _ in range(n)]
        self._ends: dict[int, Finish] = {}
        self._done: Done | None = None
        self._length = 0  # of the texts

    def add(self, event: Event) -> None:
        match event:
            case TextDelta(choice, text, tokens):
                self._length += len(text)
                self._text[choice].append(text)
                self._tokens[choice] += tokens
            case ReasoningDelta(choice, text, tokens):
                self._length += len(text)
                self._reasoning[choice].append(text)
                self._tokens[choice] += tokens
            case ThoughtSealed(choice, text):
                self._sealed[choice].append(text)
            case ThoughtSigned(choice):
                self._sign(event)
            case ToolCallBegun(choice):
                self._calls[choice].append(event)
            case ArgumentsDelta(choice, index, text):
                self._arguments[choice, index].append(text)
            case PromptLogprobs(choice, tokens):
                self._prompts[choice] += tokens
            case Finish(choice):
                self._ends[choice] = event
            case Done():
                self._done = event
            case Failure(refusal):
                raise refusal

    @property
    def over(self) -> bool:
        """Whether Done has come."""
        return self._done is not None

    @property
    def large(self) -> bool:
        """Whether it takes more than a moment to encode, or to let go of."""
        return self._length >= LARGE or any(self._tokens) or any(self._prompts)

    def clear(self) -> None:
        """Let go of log probabilities, so few at once that other threads run in between."""
        kept: list[list[Any]] = [*self._tokens, *self._prompts]
        for each in kept:
            while each:
                del each[-HELD:]

    def answer(self) -> Answer:
        """Return the whole answer, once it is over."""
        done = self._done
        assert done is not None, "an answer is whole after Done"
        choices = [*map(self._choice, range(len(self._text)))]
        if self._best is not None:
            groups = (choices[at : at + self._each] for at in range(0, len(choices), self._each))
            choices = [choice for group in groups for choice in likeliest(group, self._best)]
        about = done.timings, done.context, done.durations
        return Answer(tuple(choices), done.usage, *about)

    def _choice(self, index: int) -> AnswerChoice:
        end = self._ends[index]
        return AnswerChoice(
            "".join(self._text[index]),
            "".join(self._reasoning[index]),
            end.reason,
            end.stop,
            tuple(self._tokens[index]),
            tuple(self._whole_calls(index)),
            tuple(self._prompts[index]),
            "".join(self._sealed[index]),
            tuple(self._signed[index]),
        )

    def _sign(self, event: ThoughtSigned) -> None:
        """Note a thought that is redacted, or the text since the last that was signed."""
        choice, text = event.choice, ""
        if not event.redacted:
            text = "".join(self._reasoning[choice][self._unsigned[choice] :])
            self._unsigned[choice] = len(self._reasoning[choice])
        omitted = not text and not event.redacted
        thought = SignedThought(text, event.signature, event.origin, omitted)
        self._signed[choice].append(thought)

    def _whole_calls(self, index: int) -> Iterator[ToolCall]:
        """Yield the calls of a choice but for those that broke off, which its text has."""
        for call in self._calls[index]:
            arguments = "".join(self._arguments[index, call.index])
            with suppress(ValueError):
                json.decode(arguments or "{}")
                yield ToolCall(call.id, call.name, arguments)
