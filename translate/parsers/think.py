"""Thoughts between <think> tags, at the start of an answer or opened by its prompt."""

from collections.abc import Sequence
from enum import Enum, auto

from ..chat import Chat, Delta, ReasoningDelta, TextDelta
from .parser import AnswerToken, Format

OPEN, CLOSE = "<think>", "</think>"
NEWLINES = "\r\n"


class State(Enum):
    START = auto()  # nothing but white space so far; a tag may come
    OPENED = auto()  # inside, at the newlines that follow the tag
    INSIDE = auto()
    CLOSED = auto()  # at the newlines that follow the closing tag
    TEXT = auto()


class ThinkSplitter:
    """Only a block at the very start is reasoning; later tags are plain text.

    Newlines right after either tag belong to the tag. What may still become a tag is held back.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._held = ""

    @property
    def inside(self) -> bool:
        return self._state is State.INSIDE or self._state is State.OPENED

    def feed(self, piece: str) -> tuple[str, str]:
        """The reasoning and the text, in this order, that are now certain."""
        if self._state is State.TEXT:
            return "", piece
        text = self._held + piece
        self._held = ""
        if self._state is State.START:
            text = self._start(text)
        if self._state is State.OPENED:
            text = self._skip_newlines(text, State.INSIDE)
        reasoning = ""
        if self._state is State.INSIDE:
            reasoning, text = self._inside(text)
        if self._state is State.CLOSED:
            text = self._skip_newlines(text, State.TEXT)
        return reasoning, text

    def close(self) -> tuple[str, str]:
        """What was held back when the answer ended."""
        held, self._held = self._held, ""
        return (held, "") if self.inside else ("", held)

    def _start(self, text: str) -> str:
        body = text.lstrip()
        if body.startswith(OPEN):
            self._state = State.OPENED
            return body[len(OPEN) :]
        if OPEN.startswith(body):
            self._held = text
            return ""
        self._state = State.TEXT
        return text

    def _skip_newlines(self, text: str, then: State) -> str:
        text = text.lstrip(NEWLINES)
        if text:
            self._state = then
        return text

    def _inside(self, text: str) -> tuple[str, str]:
        reasoning, tag, rest = text.partition(CLOSE)
        if tag:
            self._state = State.CLOSED
            return reasoning, rest
        kept = len(text) - _partial_tag(text)
        self._held = text[kept:]
        return text[:kept], ""


def _partial_tag(text: str) -> int:
    """How many characters at the end of the text may be the beginning of a closing tag."""
    start = text.rfind("<", -len(CLOSE) + 1)
    return len(text) - start if start >= 0 and CLOSE.startswith(text[start:]) else 0


class ThinkParser:
    """The splitter's pieces as deltas of a choice; special tokens are not for the client."""

    def __init__(self, choice: int, state: State = State.START) -> None:
        self._choice = choice
        self._splitter = ThinkSplitter(state)
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


def opens_reasoning(prompt: str, chat: Chat | None = None) -> bool:
    """Whether the answer begins inside a <think> block that the prompt has opened.

    A tag elsewhere in the prompt is a matter of the conversation; but a final message that is
    continued (`chat` says so) may have opened a block as well.
    """
    if prompt.rstrip().endswith(OPEN):
        return True
    if chat is None or not chat.continue_final:
        return False
    content = chat.messages[-1].text
    return content.lstrip().startswith(OPEN) and CLOSE not in content


def think_parser(choice: int, prompt: str, chat: Chat) -> ThinkParser:
    return ThinkParser(choice, State.OPENED if opens_reasoning(prompt, chat) else State.START)


# Any model may think so, whatever its template shows, and most that think do.
FORMAT = Format("think", lambda template, special_tokens: True, think_parser)
