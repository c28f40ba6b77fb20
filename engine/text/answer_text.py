"""An answer's text in the worker: thoughts apart, up to the first stop string."""

from ..request import Thought
from .detokenizer import Detokenizer
from .stops import StopMatcher
from .thoughts import ThoughtSplitter


class AnswerText:
    """An answer's text in the worker, token by token: no token is generated past a stop string.

    Stop strings count from the token number `min_tokens` on, and only in what is no thought.
    """

    def __init__(
        self,
        detokenizer: Detokenizer,
        stops: StopMatcher,
        min_tokens: int = 0,
        thought: Thought | None = None,
    ) -> None:
        self._detokenizer = detokenizer
        self._stops = stops
        self._exempt = min_tokens - 1  # tokens to come that no stop string may end
        self._splitter = None if thought is None else ThoughtSplitter(thought)

    @property
    def stop(self) -> str | None:
        return self._stops.matched

    def add(self, token: int) -> None:
        self._exempt -= 1
        piece = self._detokenizer.add(token)
        if self._splitter is not None:
            _, piece = self._splitter.feed(piece)
        if self._exempt < 0:
            self._stops.add(piece)
