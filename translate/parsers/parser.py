"""Parsers of answers: tokens in, with their ids, texts and special names; deltas out."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import Struct

from ...engine.request import AnswerMarks
from ...engine.text.answer_text import Splitter, make_splitter
from ...engine.text.specials import NONE, Specials
from ..chat import Chat, Delta, ReasoningDelta, TextDelta


class AnswerToken(Struct, frozen=True, gc=False):
    """A token and the text that it made certain, which ends on a whole character.

    A `special` token has its name there; its text is its code where the format or a stop string
    names it (engine/text/specials.py), else nothing. After the last token may come what only the
    end made certain, without an id.
    """

    id: int | None
    text: str
    special: str | None = None


class AnswerParser(Protocol):
    """A parser that is fed the tokens of one choice and says what the client is to read.

    No text is lost: what may still become a mark is held back until it is certain. Codes may stay
    in text: the client never sees them. `reasoning`: whether what comes next belongs to a thought;
    `calls`: how many calls of tools are whole.
    """

    @property
    def reasoning(self) -> bool: ...

    @property
    def calls(self) -> int: ...

    def feed(self, token: AnswerToken) -> Sequence[Delta]: ...

    def close(self) -> Sequence[Delta]:
        """Return what was held back when the answer ended."""
        ...


class PlainParser:
    """A parser that shows the client all text."""

    reasoning = False
    calls = 0

    def __init__(self, choice: int, specials: Specials = NONE) -> None:
        self._choice = choice

    def feed(self, token: AnswerToken) -> Sequence[Delta]:
        return (TextDelta(self._choice, token.text),) if token.text else ()

    def close(self) -> Sequence[Delta]:
        return ()


class SplitParser:
    """A parser that makes deltas of thoughts and of text, told apart as in the worker."""

    calls = 0

    def __init__(
        self,
        choice: int,
        marks: AnswerMarks,
        specials: Specials = NONE,
        splitter: Splitter | None = None,
    ) -> None:
        self._choice = choice
        self._splitter = splitter or make_splitter(marks, specials)
        self.reasoning = self._splitter.inside

    def feed(self, token: AnswerToken) -> Sequence[Delta]:
        reasoning, text = self._splitter.feed(token.text)
        self.reasoning = self._splitter.inside
        return self._deltas(reasoning, text)

    def close(self) -> Sequence[Delta]:
        return self._deltas(*self._splitter.close())

    def _deltas(self, reasoning: str, text: str) -> Sequence[Delta]:
        if not reasoning:
            return (TextDelta(self._choice, text),) if text else ()
        thought = ReasoningDelta(self._choice, reasoning)
        return (thought, TextDelta(self._choice, text)) if text else (thought,)


@dataclass(frozen=True, slots=True)
class Closing:
    """What closes a thought: the end of its `line`, and of itself; then what begins the text.

    `calls` has, by the name of a tool format, what begins calls that do not stand in the text:
    where they may come instead nothing is begun, and where they have to, they are.
    """

    end: str
    line: str = ""
    text: str = ""
    calls: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """The way in which a family of models marks what it thinks and calls.

    `suits`: whether a model writes it, by its chat template (empty: it has none) and the names of
    its special tokens. `marks`: those of the answer to a rendered prompt; no stop string counts in
    its thoughts. `parser`: for a choice of that answer; `calling`: where tools may be called, if
    that is another. `ends`: special tokens that end it, whether a checkpoint's settings say so or
    not. `closing`: how a thought is closed that has gone on for long enough; None: it has none.
    `switches`: the names by which a template is told whether to think; `efforts`: levels that one
    that is told how much does not know, and what they are to it.
    """

    name: str
    suits: Callable[[str, Collection[str]], bool]
    marks: Callable[[str, Chat], AnswerMarks]
    parser: Callable[[int, AnswerMarks, Specials], AnswerParser] = SplitParser
    ends: tuple[str, ...] = ()
    calling: Callable[[int, AnswerMarks, Specials], AnswerParser] | None = None
    closing: Closing | None = None
    switches: tuple[str, ...] = ()
    efforts: Mapping[str, str] = field(default_factory=dict)
