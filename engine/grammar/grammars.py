"""The grammars of a model's answers: the latest are kept, and the next is compiled by a thread."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from ..request import AnswerMarks, Constraint, Refusal, Request
from .answer_grammar import AnswerGrammar
from .compiler import STACK, Compiler

if TYPE_CHECKING:
    from llguidance import LLMatcher

ENTRIES, CHARACTERS = 64, 2**20  # of the grammars that are kept, at most

Key = tuple[Constraint, AnswerMarks | None]


class Grammars:
    """The grammars that answers are held to; all calls but a thread's own come from one thread.

    It compiles one at a time, and calls `wake` when that is done.
    """

    def __init__(self, compiler: Compiler, wake: Callable[[], None] = lambda: None) -> None:
        self._compiler = compiler
        self._wake = wake
        self._thread: ThreadPoolExecutor | None = None  # none where no grammar is asked for
        self._running: tuple[Key, Future[LLMatcher]] | None = None
        self._kept: OrderedDict[Key, LLMatcher | Refusal] = OrderedDict()

    @property
    def idle(self) -> bool:
        """Return whether nothing is being compiled; what was is there to be asked for."""
        return self._running is None or self._running[1].done()

    def answer(self, request: Request, eos_ids: Iterable[int]) -> AnswerGrammar | None:
        """Return the grammar of a new answer; None where it is yet to be compiled.

        Raises Refusal for one that cannot be had.
        """
        self._take()
        key = _key(request)
        kept = self._kept.get(key)
        if kept is None:
            return None
        self._kept.move_to_end(key)
        if isinstance(kept, Refusal):
            raise Refusal(kept.status, kept.code, kept.message, kept.field)
        ends = [*(() if request.ignore_eos else eos_ids), *request.stop_token_ids]
        circle = self._compiler.circle(key[0], request.max_tokens)
        return AnswerGrammar(kept.deep_copy(), self._compiler.size, ends, key[0].field, circle)

    def compile(self, request: Request) -> None:
        """Begin to compile a request's grammar; only where nothing else is being compiled."""
        self._take()
        assert self._running is None
        if self._thread is None:
            self._thread = _with_stack()
        key = _key(request)
        self._running = key, self._thread.submit(self._compiler.compile, *key)
        self._running[1].add_done_callback(lambda _: self._wake())

    def wait(self) -> None:
        """Wait for what is being compiled."""
        if self._running is not None:
            wait([self._running[1]])

    def _take(self) -> None:
        """Keep what was compiled, and why something was not; the oldest make way."""
        if self._running is None or not self._running[1].done():
            return
        key, future = self._running
        self._running = None
        try:
            self._kept[key] = future.result()
        except Refusal as refusal:
            self._kept[key] = refusal
        while len(self._kept) > ENTRIES or self._characters > CHARACTERS:
            self._kept.popitem(last=False)

    @property
    def _characters(self) -> int:
        return sum(len(constraint.definition) for constraint, _ in self._kept)


def _with_stack() -> ThreadPoolExecutor:
    """Return a thread with a stack on which no grammar within the bounds runs out."""
    before = threading.stack_size(STACK)
    try:
        thread = ThreadPoolExecutor(1)
        thread.submit(int)  # starts it
    finally:
        threading.stack_size(before)
    return thread


def _key(request: Request) -> Key:
    assert request.constraint is not None
    return request.constraint, request.thought
