"""Parsers of answers: tokens in, with their ids, texts and special names; deltas out."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from ...engine.request import Thought
from ..chat import Chat, Delta, TextDelta


class AnswerToken(Struct, frozen=True, gc=False):
    """A token and the text that it made certain, which ends on a whole character.

    A `special` token has its name there, and no text. After the last token may come what only the
    end made certain, without an id.
    """

    id: int | None
    text: str
    special: str | None = None


class AnswerParser(Protocol):
    """A parser that is fed the tokens of one choice and says what the client is to read.

    No text is lost: what may still become a mark is held back until it is certain. `reasoning`:
    whether what comes next belongs to a thought.
    """

    reasoning: bool

    def feed(self, token: AnswerToken) -> Sequence[Delta]: ...

    def close(self) -> Sequence[Delta]:
        """Return what was held back when the answer ended."""
        ...


class PlainParser:
    """A parser that shows the client all text, and no special tokens."""

    reasoning = False

    def __init__(self, choice: int) -> None:
        self._choice = choice

    def feed(self, token: AnswerToken) -> Sequence[Delta]:
        return (TextDelta(self._choice, token.text),) if token.text else ()

    def close(self) -> Sequence[Delta]:
        return ()


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """The way in which a family of models marks what it thinks and calls.

    `suits`: whether a model writes it, by its chat template (empty: it has none) and the names of
    its special tokens. `thought`: how the answer to a rendered prompt marks thoughts, in which no
    stop string counts; `parser`: for a choice of that answer.
    """

    name: str
    suits: Callable[[str, Collection[str]], bool]
    parser: Callable[[int, Thought], AnswerParser]
    thought: Callable[[str, Chat], Thought]
