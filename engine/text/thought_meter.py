"""The tokens of an answer's thoughts, counted against a budget, and what closes one beyond it."""

import re
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..request import ThoughtBudget
    from .answer_text import Splitter

GRACE, SHARE = 32, 8  # tokens beyond a budget that a sentence may take to end, at most an 8th of it
MARK = 8  # tokens more, where a text may be about to become a mark
TAIL = 8  # characters of a thought that tell whether a sentence ends
SENTENCE = re.compile("""(?:[.!?…。！？]["'”’)\\]*_`]*|\n)\\s*$""")  # noqa: RUF001
PAUSE = re.compile(r"[\s,;:)\]}–—、，；：]$")  # noqa: RUF001


class ThoughtMeter:
    """Counts the tokens of thoughts, and has a thought closed when they go beyond the `budget`.

    `forced` are the ids that come next, whatever the model would say. A thought is closed where a
    sentence ends, or in the second half of the grace a word, and at its end wherever a character
    does. The marks themselves do not count.
    """

    def __init__(self, budget: "ThoughtBudget", splitter: "Splitter") -> None:
        self._budget = budget
        self._splitter = splitter
        self._grace = min(GRACE, budget.tokens // SHARE)
        self._count = 0
        self._tail = ""
        self._times = 0  # that a thought was closed
        self.forced: deque[int] = deque()
        self._judge(whole=True)

    @property
    def is_due(self) -> bool:
        """Return whether what comes after the next token may be forced, or it is itself."""
        if self.forced:
            return True
        return self._count + 1 >= self._budget.tokens and not self._splitter.settled

    def add(self, text: str, whole: bool) -> None:
        """Take the next token's text, after which the answer ends on a `whole` character or not."""
        was_forced = bool(self.forced)
        if was_forced:
            self.forced.popleft()
        if self._splitter.settled:
            return
        self._count += self._splitter.inside
        self._splitter.feed(text)
        self._tail = (self._tail + text)[-TAIL:]
        if not was_forced:
            self._judge(whole)

    def _judge(self, whole: bool) -> None:
        """Close the thought, if it goes beyond the budget and this is the place."""
        beyond = self._count - self._budget.tokens
        if beyond < 0 or not whole or not self._splitter.inside:
            return
        if self._splitter.holds and beyond < self._grace + MARK:
            return
        late = 2 * beyond >= self._grace and PAUSE.search(self._tail)
        if beyond >= self._grace or late or SENTENCE.search(self._tail):
            closing = self._budget.again if self._times else self._budget.closing
            at_line = self._tail.endswith("\n")
            self.forced.extend(closing[self._budget.line * at_line :])
            self._times += 1
