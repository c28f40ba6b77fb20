"""What runs next: admit, prefill in chunks beside decoding, preempt when pages run out (pure)."""

from collections import Counter, defaultdict
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from .admission import Admission
from .pager import Pager
from .request import over_context
from .sequence import Sequence
from .turns import Turns

LOOKS = 256  # waiting sequences that a step looks at, at most
MATCHED = 2**19  # tokens that a step looks up in the tree, at most, but for the first sequence's
FEW = 4  # a client that runs less than another by this factor has its prompt computed alone


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a step, in tokens but `batch` (sequences decoded together) and `queue`."""

    context: int  # the longest prompt and answer together
    batch: int = 64
    queue: int = 256  # sequences of one client that may wait
    chunk: int = 256  # prompt tokens a step; bounds how long a step keeps running streams waiting
    page: int = 32
    alone: int = 0  # prompt tokens a step where nothing decodes, if that is more

    @property
    def longest(self) -> int:
        """The most prompt tokens of a step."""
        return max(self.chunk, self.alone)


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


def share_by_client(budget: int, pending: Seq[int], clients: Seq[str]) -> list[int]:
    """Split a step's prompt tokens among clients alike; what one does not need, others get."""
    places = defaultdict[str, list[int]](list)
    for place, client in enumerate(clients):
        places[client].append(place)
    counts = [0] * len(pending)
    needs = sorted((sum(pending[i] for i in own), own) for own in places.values())
    for left, (need, own) in zip(range(len(needs), 0, -1), needs, strict=True):
        part = min(need, -(-budget // left))
        budget -= part
        for i, count in zip(own, share(part, [pending[i] for i in own]), strict=True):
            counts[i] = count
    return counts


class Scheduler:
    """Clients take turns: of the one that runs most, the last admitted is the first preempted.

    It decides who runs; the pager says for whom there are pages, and hands them out.
    """

    def __init__(self, pager: Pager, limits: Limits) -> None:
        self.limits = limits
        self.waiting = Turns()
        self.running: dict[Sequence, None] = {}  # in the order in which they were admitted
        self.preemptions = 0  # since the start
        self._admission = Admission(limits.batch, limits.queue)
        self._counts = Counter[str]()  # what each client runs
        self._alone = False  # the last step was a newcomer's
        self._pager = pager

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence, or refuse one that can never fit or finds the queue full."""
        request = sequence.request
        needed = len(request.tokens) + max(request.min_tokens, min(request.max_tokens, 1))
        if needed > self.limits.context:
            prompt = len(request.tokens)
            raise over_context(prompt, needed - prompt, self.limits.context)
        self._admission.enter(request.client)
        self.waiting.append(sequence)

    def schedule(self) -> tuple[list[Work], list[Sequence]]:
        """Return the next step's work, decoding first, and the newly admitted sequences."""
        admitted = self._admit()
        work = self._work(self._newcomers()) or self._work(list(self.running))
        return work, admitted

    def first_unprepared(self) -> Sequence | None:
        """Return the sequence whose grammar is to be compiled next: clients take turns here too."""
        waiting = self.waiting.candidates(self._counts)
        return next((sequence for sequence in waiting if not sequence.is_prepared), None)

    def commit(self, work: Seq[Work]) -> None:
        """Count a step's tokens as computed, and share pages that became full."""
        for item in work:
            self._pager.commit(item.sequence, item.count)

    def finish(self, sequence: Sequence) -> None:
        """Take a sequence out, running or waiting; its full pages stay to be found again."""
        if sequence in self.running:
            self._stop(sequence)
        else:
            self.waiting.remove(sequence)
        self._admission.leave(sequence.request.client)

    def _admit(self) -> list[Sequence]:
        admitted: list[Sequence] = []
        left = MATCHED
        for _, sequence in zip(range(LOOKS), self.waiting.candidates(self._counts), strict=False):
            if not self._has_place(sequence.request.client):
                break
            if not sequence.is_prepared or self._pager.follows(sequence):
                continue
            if left <= 0:
                break
            left -= len(sequence.tokens)
            match = self._pager.match(sequence)
            if self._pager.follow(sequence, match.saved, self.running):
                continue
            while self.running and not self._pager.fits(match):
                if not self._preempt_for(sequence.request.client):
                    return admitted
            self._preempt_for_place(sequence.request.client)
            self.waiting.remove(sequence)
            self._pager.start(sequence, match)
            self.running[sequence] = None
            self._counts[sequence.request.client] += 1
            if sequence.cached < 0:
                sequence.cached = sequence.computed
                admitted.append(sequence)
        return admitted

    def _has_place(self, client: str) -> bool:
        return len(self.running) < self.limits.batch or self._may_preempt(client)

    def _preempt_for_place(self, client: str) -> None:
        if len(self.running) >= self.limits.batch:
            self._preempt_for(client)

    def _may_preempt(self, client: str) -> bool:
        """Return whether another client would still run no less than this one, one given up."""
        return max(self._counts.values(), default=0) >= self._counts[client] + 2

    def _preempt_for(self, client: str) -> bool:
        if not self._may_preempt(client):
            return False
        self._preempt(self._last())
        return True

    def _newcomers(self) -> list[Sequence]:
        """Return what clients run that wait for a first token while others run far more.

        They have a step for themselves, so that it is as short as if they were alone; but no two
        in a row, so that the others go on.
        """
        most = max(self._counts.values(), default=0)
        clients = {
            client
            for s in self.running
            if not (s.generated or s.request.embeds)
            and FEW * self._counts[client := s.request.client] <= most
        }
        self._alone = bool(clients) and not self._alone
        return [s for s in self.running if s.request.client in clients] if self._alone else []

    def _work(self, sequences: Seq[Sequence]) -> list[Work]:
        """Return the work of a step that these have a part in; it may preempt some of them."""
        for sequence in sequences:
            if sequence.pending == 1 and sequence in self.running:
                self._grow(sequence, 1)
        decoding = any(s.pending == 1 for s in self.running)
        budget = self.limits.chunk if decoding else self.limits.longest
        prompts = [s for s in sequences if s.pending > 1 and s in self.running]
        prefills = self._prefills(prompts, budget)
        decodes = [Work(s, 1) for s in sequences if s.pending == 1 and s in self.running]
        return decodes + prefills

    def _prefills(self, prompts: Seq[Sequence], budget: int) -> list[Work]:
        pending, clients = [s.pending for s in prompts], [s.request.client for s in prompts]
        work = []
        for sequence, count in zip(prompts, share_by_client(budget, pending, clients), strict=True):
            if sequence.request.prompt_logprobs is not None:
                count = min(count, self.limits.page)  # its logits are one row a token: keep few
            if sequence in self.running:
                count = self._pager.cut(sequence, count)
                if count and self._grow(sequence, count):
                    work.append(Work(sequence, count))
        return [item for item in work if item.sequence in self.running]

    def _grow(self, sequence: Sequence, count: int) -> bool:
        """Get pages for the next `count` tokens, preempting others where need be.

        False if the sequence itself had to go.
        """
        while not self._pager.grow(sequence, count):
            last = self._last()
            self._preempt(last)
            if last is sequence:
                return False
        return True

    def _last(self) -> Sequence:
        """Return the last admitted of the clients that run most."""
        most = max(self._counts.values())
        return next(s for s in reversed(self.running) if self._counts[s.request.client] == most)

    def _preempt(self, sequence: Sequence) -> None:
        """Send a sequence back to the head of its client's queue, to be computed again."""
        self._stop(sequence)
        self.waiting.put_back(sequence)
        self.preemptions += 1

    def _stop(self, sequence: Sequence) -> None:
        del self.running[sequence]
        self._counts[sequence.request.client] -= 1
        if not self._counts[sequence.request.client]:
            del self._counts[sequence.request.client]
        self._pager.release(sequence)
