"""A stopwatch of one answer, from its request to its last token."""

from time import monotonic_ns

from ..engine.request import Event, Started, Token
from ..translate.chat import Durations

SECOND = 10**9


class Stopwatch:
    """The moments of an answer in nanoseconds, each the first of its kind; it starts running."""

    def __init__(self) -> None:
        self._began = monotonic_ns()
        self._loaded = self._started = self._first = 0

    def loaded(self) -> None:
        """Note that the answer's model is there."""
        self._loaded = monotonic_ns()

    def take(self, event: Event) -> None:
        """Note what an event tells of: that the turn has come, or that there is a token."""
        if isinstance(event, Started):
            self._started = self._started or monotonic_ns()
        elif isinstance(event, Token) and event.tokens:
            self._first = self._first or monotonic_ns()

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return (monotonic_ns() - self._began) / SECOND

    @property
    def first(self) -> float | None:
        """After how many seconds the first token came, if it has."""
        return (self._first - self._began) / SECOND if self._first else None

    def durations(self) -> Durations:
        """Return how long it all took so far; what has not come took no time."""
        now = monotonic_ns()
        started = self._started or now
        first = self._first or now
        return Durations(
            now - self._began, self._loaded - self._began, first - started, now - first
        )
