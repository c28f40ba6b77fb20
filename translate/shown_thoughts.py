"""The thoughts of an answer as its client wants them: apart, within the text, sealed or not."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from ..engine.request import AnswerMarks, Thought
from .chat import Event, Finish, ReasoningDelta, Shown, TextDelta, ThoughtSealed, ThoughtSigned

TAGS = "<think>", "</think>"  # what clients look for in a text, where a family has no tags


class Inline:
    """Writes thoughts of one choice into its text, between the family's marks."""

    def __init__(self, marks: AnswerMarks) -> None:
        self._open, self._close = TAGS
        if isinstance(marks, Thought):
            self._open, self._close = marks.open, marks.close
        self._inside = False
        self._line = ""  # what ends the thought's last line

    def __call__(self, event: Event) -> Iterator[Event]:
        if isinstance(event, ReasoningDelta):
            text = event.text if self._inside else f"{self._open}\n{event.text}"
            self._inside = True
            self._line = "" if (text or "\n").endswith("\n") else "\n"
            yield TextDelta(event.choice, text, event.tokens)
            return
        if self._inside and not isinstance(event, Finish):
            self._inside = False
            yield TextDelta(_choice(event), f"{self._line}{self._close}\n\n")
        yield event


class Sealed:
    """Leaves thoughts of one choice out, and says of each when it is over what it was.

    One that another server signed needs no more: that one knows it by the signature.
    """

    def __init__(self, marks: AnswerMarks) -> None:
        self._text: list[str] = []

    def __call__(self, event: Event) -> Iterator[Event]:
        if isinstance(event, ReasoningDelta):
            self._text.append(event.text)
            return
        if isinstance(event, ThoughtSigned):
            self._text.clear()
        if self._text:
            yield ThoughtSealed(_choice(event), "".join(self._text))
            self._text.clear()
        yield event


class Hidden:
    """Leaves thoughts out."""

    def __init__(self, marks: AnswerMarks) -> None:
        pass

    def __call__(self, event: Event) -> Iterator[Event]:
        if not isinstance(event, ReasoningDelta | ThoughtSigned):
            yield event


Way = Callable[[Event], Iterable[Event]]
WAYS: Mapping[Shown, Callable[[AnswerMarks], Way]] = {
    "inline": Inline,
    "sealed": Sealed,
    "hidden": Hidden,
}


def shown_thoughts(shown: Shown, marks: AnswerMarks | None) -> Way | None:
    """Return what the events of one choice go through; None where they stay as they are."""
    return None if marks is None or shown == "apart" else WAYS[shown](marks)


def _choice(event: Event) -> int:
    choice: int = getattr(event, "choice", 0)
    return choice
