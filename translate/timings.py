"""How fast an answer comes: its prompt read step by step, then tokens written."""

from collections.abc import Callable

from .chat import Timings


class Stopwatch:
    """A stopwatch of one answer, which knows how many tokens came when; `now` is in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began: float | None = None  # the first prompt
        self._wrote: float | None = None  # the first token

    def begin(self) -> None:
        """Note that a prompt is about to be computed; the first one counts."""
        if self._began is None:
            self._began = self._now()

    def token(self) -> None:
        """Note that tokens came; the first ones end the prompt's time."""
        if self._wrote is None:
            self._wrote = self._now()

    @property
    def prompt_seconds(self) -> float:
        """The seconds from the first prompt's start to the first token, or until now."""
        if self._began is None:
            return 0.0
        return (self._now() if self._wrote is None else self._wrote) - self._began

    def timings(self, cached: int, computed: int, written: int, later: int) -> Timings:
        """Return the timings of an answer with so many tokens of each kind."""
        writing = 0.0 if self._wrote is None else self._now() - self._wrote
        computing = self.prompt_seconds if computed else 0.0
        return Timings(cached, computed, computing, written, writing, later)
