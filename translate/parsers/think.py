"""Thoughts between <think> tags, at the start of an answer or opened by its prompt."""

from collections.abc import Sequence

from ...engine.request import Thought
from ...engine.text.thoughts import ThoughtSplitter
from ..chat import Chat, Delta, ReasoningDelta, TextDelta
from .parser import AnswerFormat, AnswerToken

OPEN, CLOSE = "<think>", "</think>"


class ThinkParser:
    """A parser that makes the splitter's pieces deltas of a choice, without special tokens."""

    def __init__(self, choice: int, thought: Thought) -> None:
        self._choice = choice
        self._splitter = ThoughtSplitter(thought)
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


def thought(prompt: str, chat: Chat) -> Thought:
    """Return the marks, and whether the answer begins inside a block that the prompt has opened.

    A tag elsewhere in the prompt is a matter of the conversation; but a final message that is
    continued (`chat` says so) may have opened a block as well.
    """
    final = chat.messages[-1].text if chat.continue_final else ""
    goes_on = final.lstrip().startswith(OPEN) and CLOSE not in final
    return Thought(OPEN, CLOSE, goes_on or prompt.rstrip().endswith(OPEN))


# Any model may think so, whatever its template shows, and most that think do.
FORMAT = AnswerFormat("think", lambda template, special_tokens: True, ThinkParser, thought)
