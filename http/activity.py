"""The work of a model that is under way, and how much it has done: what status endpoints tell."""

from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from ..engine.request import Request
from ..translate.answer import AnswerStream
from ..translate.chat import Usage
from .stopwatch import Stopwatch


class Running(Struct, frozen=True):
    """A sequence that waits for its turn or runs; seconds since it was asked for.

    `first` is how many had passed when its answer's first token came.
    """

    request: Request
    running: bool
    cached: int
    completion: int
    seconds: float
    first: float | None


class Activity:
    """The answers under way, and the requests and tokens of those that are over."""

    def __init__(self) -> None:
        self.requests = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._under_way: dict[AnswerStream, Stopwatch] = {}

    @contextmanager
    def under_way(self, answer: AnswerStream, times: Stopwatch) -> Iterator[None]:
        """Tell of an answer until it is over, or given up."""
        self._under_way[answer] = times
        try:
            yield
        finally:
            del self._under_way[answer]
            self.done(answer.usage)

    def done(self, usage: Usage) -> None:
        """Count a request that is over."""
        self.requests += 1
        self.prompt_tokens += usage.prompt
        self.completion_tokens += usage.completion

    def running(self) -> list[Running]:
        """Return the sequences under way, in the order in which they were asked for."""
        return [
            Running(
                each.request,
                each.started,
                each.cached,
                each.completion,
                times.seconds,
                times.first,
            )
            for answer, times in self._under_way.items()
            for each in answer.sequences()
        ]
