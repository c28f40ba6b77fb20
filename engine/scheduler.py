"""What runs next: admit, prefill in chunks beside decoding, preempt when pages run out (pure)."""

from collections import deque
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from .blocks import Blocks
from .prefix_cache import Node, PrefixCache
from .request import Refusal
from .sequence import Sequence


@dataclass(frozen=True, slots=True)
class Limits:
    """All in tokens but `batch` (sequences decoded together) and `queue` (sequences waiting)."""

    context: int  # the longest prompt and answer together
    batch: int = 64
    queue: int = 256
    chunk: int = 256  # prompt tokens a step; bounds how long a step keeps running streams waiting
    page: int = 32


@dataclass(frozen=True, slots=True)
class Work:
    """Compute the next `count` pending tokens of a sequence."""

    sequence: Sequence
    count: int

    @property
    def last(self) -> bool:
        """Whether the step computes all that is pending, so that a token can be drawn."""
        return self.count == self.sequence.pending


def share(budget: int, pending: Seq[int]) -> list[int]:
    """Split a step's prompt tokens: half to the oldest prompt, the rest to the shortest first.

    So a short prompt is not stuck behind a long one, and a long one is never starved.
    """
    counts = [0] * len(pending)
    if pending:
        counts[0] = min(pending[0], -(-budget // 2))
    budget -= sum(counts)
    for i in sorted(range(len(pending)), key=lambda i: pending[i] - counts[i]):
        extra = min(pending[i] - counts[i], budget)
        counts[i] += extra
        budget -= extra
    return counts


class Scheduler:
    """Sequences in the order of their arrival; the last admitted is the first to be preempted."""

    def __init__(self, blocks: Blocks, cache: PrefixCache, limits: Limits) -> None:
        self.limits = limits
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._blocks = blocks
        self._cache = cache

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence, or refuse one that can never fit or finds the queue full."""
        request = sequence.request
        needed = len(request.tokens) + max(request.min_tokens, min(request.max_tokens, 1))
        if needed > self.limits.context:
            raise Refusal(
                400,
                "context_length_exceeded",
                f"The prompt has {len(request.tokens)} tokens and at least "
                f"{needed - len(request.tokens)} more are to be generated, but this model's "
                f"context is {self.limits.context} tokens: shorten the prompt.",
            )
        if len(self.waiting) >= self.limits.queue:
            raise Refusal(
                503, "overloaded", "Too many requests are waiting; try again soon.", retry_after=1
            )
        self.waiting.append(sequence)

    def schedule(self) -> tuple[list[Work], list[Sequence]]:
        """The next step's work, decoding first, and the sequences admitted for the first time."""
        admitted = self._admit()
        self._make_room_to_decode()
        prefills = self._prefills()  # may preempt a sequence that was about to decode
        decodes = [Work(s, 1) for s in self.running if s.pending == 1]
        return decodes + prefills, admitted

    def commit(self, work: Seq[Work]) -> None:
        """The step ran: its tokens are computed, and pages that became full are shared."""
        for item in work:
            sequence = item.sequence
            sequence.computed += item.count
            for index in range(len(sequence.path), sequence.computed // self.limits.page):
                key = sequence.page_key(index, self.limits.page)
                node = self._cache.insert(self._parent(sequence), key, sequence.pages[index])
                sequence.pages[index] = node.page
                sequence.path.append(node)

    def finish(self, sequence: Sequence) -> None:
        """Take a sequence out, running or waiting; its full pages stay to be found again."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._release(sequence)
        else:
            self.waiting.remove(sequence)

    def _parent(self, sequence: Sequence) -> Node:
        return sequence.path[-1] if sequence.path else self._cache.root(sequence.request.salt)

    def _admit(self) -> list[Sequence]:
        admitted: list[Sequence] = []
        for sequence in list(self.waiting):
            if len(self.running) >= self.limits.batch:
                break
            path = self._match(sequence)
            if self._in_flight(sequence, path):
                continue
            if not self._has_room(sequence, path):
                break
            self.waiting.remove(sequence)
            if sequence.cached < 0:
                sequence.cached = len(path) * self.limits.page
                admitted.append(sequence)
            self._start(sequence, path)
        return admitted

    def _match(self, sequence: Sequence) -> list[Node]:
        if sequence.request.prompt_logprobs is not None:
            return []  # every position of the prompt has to be computed
        size = self.limits.page
        full = (len(sequence.tokens) - 1) // size  # the last token is computed in any case
        keys = [sequence.page_key(index, size) for index in range(full)]
        return self._cache.match(sequence.request.salt, keys)

    def _in_flight(self, sequence: Sequence, path: list[Node]) -> bool:
        """Whether a running prompt is about to compute the next page that this one needs."""
        size, index = self.limits.page, len(path)
        if sequence.request.prompt_logprobs is not None or len(sequence.tokens) <= (
            (index + 1) * size
        ):
            return False
        key = sequence.page_key(index, size)
        return any(
            other.pending > 1
            and other.path == path
            and other.request.salt == sequence.request.salt
            and len(other.tokens) >= (index + 1) * size
            and other.page_key(index, size) == key
            for other in self.running
        )

    def _has_room(self, sequence: Sequence, path: list[Node]) -> bool:
        if not self.running:
            return True
        needed = self._pages(len(sequence.tokens) + 1) - len(path)
        held = sum(not node.users for node in path)  # idle pages that the match itself will use
        return needed <= self._blocks.free + self._cache.idle - held

    def _start(self, sequence: Sequence, path: list[Node]) -> None:
        self._cache.use(path)
        sequence.path = path
        sequence.pages = [node.page for node in path]
        sequence.computed = len(path) * self.limits.page
        self.running.append(sequence)

    def _make_room_to_decode(self) -> None:
        for sequence in list(self.running):
            if sequence.pending == 1 and sequence in self.running:
                self._grow(sequence, 1)

    def _prefills(self) -> list[Work]:
        prompts = [s for s in self.running if s.pending > 1]
        work = []
        for sequence, count in zip(
            prompts, share(self.limits.chunk, [s.pending for s in prompts]), strict=True
        ):
            if sequence.request.prompt_logprobs is not None:
                count = min(count, self.limits.page)  # its logits are one row a token: keep few
            if count and sequence in self.running and self._grow(sequence, count):
                work.append(Work(sequence, count))
        return [item for item in work if item.sequence in self.running]

    def _grow(self, sequence: Sequence, count: int) -> bool:
        """Pages for the next `count` tokens, taken from the youngest where need be.

        False if the sequence itself was the youngest and had to go.
        """
        while len(sequence.pages) < self._pages(sequence.computed + count):
            if self._blocks.free or self._cache.evict():
                sequence.pages.append(self._blocks.take())
                continue
            youngest = self.running[-1]
            self._preempt(youngest)
            if youngest is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        """Back to the head of the queue with all its tokens; they are computed again later."""
        self.running.remove(sequence)
        self._release(sequence)
        sequence.computed = 0
        self.waiting.appendleft(sequence)

    def _release(self, sequence: Sequence) -> None:
        for page in sequence.pages[len(sequence.path) :]:
            self._blocks.give_back(page)
        self._cache.let_go(sequence.path)
        sequence.pages, sequence.path = [], []

    def _pages(self, tokens: int) -> int:
        return -(-tokens // self.limits.page)
