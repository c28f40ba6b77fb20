"""An answer's text in the worker: thoughts apart, up to the first stop string."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..request import AnswerMarks, Channels, Thought
from .channels import ChannelSplitter
from .detokenizer import AnswerDetokenizer
from .specials import NONE, Specials
from .stops import StopMatcher
from .thought_meter import ThoughtMeter
from .thoughts import ThoughtSplitter


class Splitter(Protocol):
    """What tells an answer's thoughts from its text, both without marks, as it grows.

    `inside`: what comes next belongs to a thought. `holds`: a text is held back that may become a
    mark. `settled`: nothing that comes is a thought. Codes of special tokens that end the text stay
    in it, for stop strings.
    """

    @property
    def inside(self) -> bool: ...

    @property
    def holds(self) -> bool: ...

    @property
    def settled(self) -> bool: ...

    def feed(self, piece: str) -> tuple[str, str]:
        """Return the reasoning and the text, in this order, that are now certain."""
        ...

    def close(self) -> tuple[str, str]:
        """Return what was held back when the answer ended, as in `feed`."""
        ...


# A kind of marks -> what tells them.
SPLITTERS: Mapping[type[AnswerMarks], Callable[[Any, Specials], Splitter]] = {
    Thought: ThoughtSplitter,
    Channels: ChannelSplitter,
}


def make_splitter(marks: AnswerMarks, specials: Specials = NONE) -> Splitter:
    return SPLITTERS[type(marks)](marks, specials)


class AnswerText:
    """An answer's text in the worker, token by token: no token is generated past a stop string.

    Stop strings count from the token number `min_tokens` on, and only in what no `splitter` takes
    for a thought. A `meter` keeps thoughts within their budget.
    """

    def __init__(
        self,
        detokenizer: AnswerDetokenizer,
        stops: StopMatcher,
        min_tokens: int,
        splitter: Splitter | None,
        meter: ThoughtMeter | None,
    ) -> None:
        self.meter = meter
        self._detokenizer = detokenizer
        self._stops = stops
        self._exempt = min_tokens - 1  # tokens to come that no stop string may end
        self._splitter = splitter

    @property
    def stop(self) -> str | None:
        return self._stops.matched

    def add(self, token: int, hidden: bool = False) -> tuple[str, str]:
        """Take the next token; return the thought and the text, in this order, now certain.

        Of a `hidden` one, which ends the answer, only a name counts.
        """
        self._exempt -= 1
        text, thought = self._detokenizer.add(token, hidden), ""
        if self.meter is not None:
            self.meter.add(text, self._detokenizer.whole)
        if self._splitter is not None:
            thought, text = self._splitter.feed(text)
        return self._sought(thought, text, exempt=self._exempt >= 0)

    def close(self) -> tuple[str, str]:
        """Return what was held back when the answer ended, as in `add`."""
        text, thought = self._detokenizer.flush(), ""
        if self._splitter is not None:
            (thought, text), held = self._splitter.feed(text), self._splitter.close()
            thought, text = thought + held[0], text + held[1]
        thought, text = self._sought(thought, text, exempt=False)
        return thought, text + self._stops.flush()

    def _sought(self, thought: str, text: str, exempt: bool) -> tuple[str, str]:
        """Look for stop strings; a thought parts the text before it from the text after it."""
        before = self._stops.flush() if thought else ""
        return thought, before + (text if exempt else self._stops.add(text))
