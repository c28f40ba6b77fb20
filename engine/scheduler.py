"""What runs next: admit, prefill in chunks beside decoding, preempt when pages run out (pure)."""

from collections import deque
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from .pager import Pager
from .request import over_context, overloaded
from .sequence import Sequence


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a step, in tokens but `batch` (sequences decoded together) and `queue`."""

    context: int  # the longest prompt and answer together
    batch: int = 64
    queue: int = 256  # sequences that may wait
    chunk: int = 256  # prompt tokens a step; bounds how long a step keeps running streams waiting
    page: int = 32


@dataclass(frozen=True, slots=True)
class Work:
    """An item of a step: the next `count` pending tokens of a sequence are computed."""

    sequence: Sequence
    count: int

    @property
    def last(self) -> bool:
        """True if the step computes all pending tokens, so that the next one can be sampled."""
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
    """Sequences in the order of their arrival; the last admitted is the first to be preempted.

    It decides who runs; the pager says for whom there are pages, and hands them out.
    """

    def __init__(self, pager: Pager, limits: Limits) -> None:
        self.limits = limits
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preemptions = 0  # since the start
        self._pager = pager

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence, or refuse one that can never fit or finds the queue full."""
        request = sequence.request
        needed = len(request.tokens) + max(request.min_tokens, min(request.max_tokens, 1))
        if needed > self.limits.context:
            prompt = len(request.tokens)
            raise over_context(prompt, needed - prompt, self.limits.context)
        if len(self.waiting) >= self.limits.queue:
            raise overloaded()
        self.waiting.append(sequence)

    def schedule(self) -> tuple[list[Work], list[Sequence]]:
        """Return the next step's work, decoding first, and the newly admitted sequences."""
        admitted = self._admit()
        for sequence in list(self.running):
            if sequence.pending == 1 and sequence in self.running:
                self._grow(sequence, 1)
        prefills = self._prefills()  # may preempt a sequence that was about to decode
        decodes = [Work(s, 1) for s in self.running if s.pending == 1]
        return decodes + prefills, admitted

    def commit(self, work: Seq[Work]) -> None:
        """Count a step's tokens as computed, and share pages that became full."""
        for item in work:
            self._pager.commit(item.sequence, item.count)

    def finish(self, sequence: Sequence) -> None:
        """Take a sequence out, running or waiting; its full pages stay to be found again."""
        (self.running if sequence in self.running else self.waiting).remove(sequence)
        self._pager.release(sequence)

    def _admit(self) -> list[Sequence]:
        admitted: list[Sequence] = []
        for sequence in list(self.waiting):
            if len(self.running) >= self.limits.batch:
                break
            match = self._pager.match(sequence)
            if self._in_flight(sequence, match.saved):
                continue
            if self.running and not self._pager.fits(match):
                break
            self.waiting.remove(sequence)
            self._pager.start(sequence, match)
            self.running.append(sequence)
            if sequence.cached < 0:
                sequence.cached = sequence.computed
                admitted.append(sequence)
        return admitted

    def _in_flight(self, sequence: Sequence, matched: int) -> bool:
        """Return whether a running prompt will soon share more of this one than was matched."""
        if sequence.request.prompt_logprobs is not None:
            return False
        return any(
            matched < (soon := self._pager.next_shared(other)) < len(sequence.tokens)
            and sequence.alike(other, soon)
            for other in self.running
            if other.pending > 1
        )

    def _prefills(self) -> list[Work]:
        prompts = [s for s in self.running if s.pending > 1]
        work = []
        for sequence, count in zip(
            prompts, share(self.limits.chunk, [s.pending for s in prompts]), strict=True
        ):
            if sequence.request.prompt_logprobs is not None:
                count = min(count, self.limits.page)  # its logits are one row a token: keep few
            if sequence in self.running:
                count = self._pager.cut(sequence, count)
                if count and self._grow(sequence, count):
                    work.append(Work(sequence, count))
        return [item for item in work if item.sequence in self.running]

    def _grow(self, sequence: Sequence, count: int) -> bool:
        """Get pages for the next `count` tokens, preempting the youngest where need be.

        That one goes back to the head of the queue with all its tokens, to be computed again.
        False if the sequence itself was the youngest and had to go.
        """
        while not self._pager.grow(sequence, count):
            youngest = self.running.pop()
            self._pager.release(youngest)
            self.waiting.appendleft(youngest)
            self.preemptions += 1
            if youngest is sequence:
                return False
        return True
