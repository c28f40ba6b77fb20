"""What runs next: admit, prefill in chunks beside decoding, preempt when room runs out (pure)."""

from collections import deque
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from .prefix_cache import Node, PrefixCache
from .request import Refusal, overloaded
from .room import first_seen, most_held
from .sequence import Sequence

SAVED = 512  # tokens of a prompt, at least, between two states that the tree is given


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
    """Sequences in the order of their arrival; the last admitted is the first to be preempted.

    A sequence that needs a state has a slot while it runs; the tree is given copies at the ends of
    pages. Copies are made in their order, before the next step.
    """

    def __init__(self, cache: PrefixCache, limits: Limits) -> None:
        self.limits = limits
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preemptions = 0  # since the start
        self._cache = cache
        self._recurrent = cache.room.states > 0
        self._windows = [(g, w) for g, w in enumerate(cache.room.windows) if w is not None]
        self._copies: list[tuple[int, int]] = []

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
            raise overloaded()
        self.waiting.append(sequence)

    def schedule(self) -> tuple[list[Work], list[Sequence]]:
        """The next step's work, decoding first, and the sequences admitted for the first time."""
        admitted = self._admit()
        self._make_room_to_decode()
        prefills = self._prefills()  # may preempt a sequence that was about to decode
        decodes = [Work(s, 1) for s in self.running if s.pending == 1]
        return decodes + prefills, admitted

    def take_copies(self) -> list[tuple[int, int]]:
        """What has to be copied before the work is done: from and to which slot, in order."""
        copies, self._copies = self._copies, []
        return copies

    def commit(self, work: Seq[Work]) -> None:
        """The step ran: its tokens are computed, and pages that became full are shared."""
        size = self.limits.page
        for item in work:
            sequence = item.sequence
            sequence.computed += item.count
            if self._windows:
                self._give_back(sequence)
            for index in range(len(sequence.path), sequence.computed // size):
                self._share(sequence, index)
            if self._recurrent and not sequence.computed % size:
                self._save(sequence)

    def finish(self, sequence: Sequence) -> None:
        """Take a sequence out, running or waiting; its full pages stay to be found again."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._release(sequence)
        else:
            self.waiting.remove(sequence)

    def _give_back(self, sequence: Sequence) -> None:
        """Pages that no token to come sees."""
        for group, window in self._windows:
            table, first = sequence.pages[group], sequence.firsts[group]
            last = first_seen(window, sequence.computed, self.limits.page)
            for index in range(first, last):
                if index < len(sequence.path):
                    self._cache.let_go(sequence.path[index], group)
                else:
                    self._cache.blocks[group].give_back(table[index])
                table[index] = 0
            sequence.firsts[group] = last

    def _share(self, sequence: Sequence, index: int) -> None:
        """A page that is full, with the tree."""
        path, tables = sequence.path, sequence.pages
        parent = path[-1] if path else self._cache.root(sequence.salt)
        mine = [table[index] for table in tables]
        node = self._cache.insert(parent, sequence.page_key(index, self.limits.page), mine)
        for group, page in enumerate(mine):
            if page:
                tables[group][index] = node.pages[group]
        path.append(node)

    def _save(self, sequence: Sequence) -> None:
        """The state at the end of a page, for the tree, unless it is within a prompt and too soon.

        An answer's replaces the one before, which another sequence may have to compute again.
        """
        computed, node = sequence.computed, sequence.path[-1]
        if computed < self._stop(sequence) and computed - sequence.saved < SAVED:
            return
        answering = computed > sequence.begun
        mark = sequence.mark
        if answering and mark and mark.state and not mark.found:
            self._cache.forget(mark)
        slot = self._cache.save(node)
        if slot:
            self._copies.append((sequence.slot, slot))
        sequence.saved = computed
        sequence.mark = node if slot and answering else None

    def _stop(self, sequence: Sequence) -> int:
        """The end of the last page that a prompt like this one could find in the tree."""
        return (sequence.begun - 1) // self.limits.page * self.limits.page

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
        return self._cache.match(sequence.salt, keys)

    def _in_flight(self, sequence: Sequence, path: list[Node]) -> bool:
        """Whether a running prompt is about to compute more of this one than was found."""
        if sequence.request.prompt_logprobs is not None:
            return False
        found, most = len(path) * self.limits.page, len(sequence.tokens) - 1
        return any(
            found < (soon := self._soon(other)) <= most and _alike(sequence, other, soon)
            for other in self.running
            if other.pending > 1
        )

    def _soon(self, other: Sequence) -> int:
        """After how many of its tokens a prompt that is being computed can next be found; or 0."""
        size = self.limits.page
        if not self._recurrent:
            soon = (len(other.path) + 1) * size
            return soon if soon <= len(other.tokens) else 0
        far = (other.saved + SAVED + self.limits.chunk) // size * size
        soon = min(far, self._stop(other))
        return soon if soon > other.computed else 0

    def _has_room(self, sequence: Sequence, path: list[Node]) -> bool:
        if not self.running:
            return True
        if self._recurrent and not self._cache.spare_slots:
            return False
        chunk, size = self.limits.chunk, self.limits.page
        for group, window in enumerate(self._cache.room.windows):
            found = path[first_seen(window, len(path) * size, size) :]
            needed = self._pages(len(sequence.tokens) + 1) - (len(path) - len(found))
            if window is not None:
                needed = min(needed, most_held(window, chunk, size))
            # idle pages that the match itself will use
            held = sum(not node.users[group] for node in found)
            if needed - len(found) > self._cache.spare(group) - held:
                return False
        return True

    def _start(self, sequence: Sequence, path: list[Node]) -> None:
        size, windows = self.limits.page, self._cache.room.windows
        sequence.path = path
        sequence.computed = sequence.saved = len(path) * size
        sequence.begun, sequence.mark = len(sequence.tokens), None
        sequence.firsts = [first_seen(window, sequence.computed, size) for window in windows]
        self._cache.enter(path, sequence.firsts)
        sequence.pages = [
            [0] * first + [node.pages[group] for node in path[first:]]
            for group, first in enumerate(sequence.firsts)
        ]
        if self._recurrent:
            found = path[-1].state if path else 0
            sequence.slot = self._cache.take_slot()  # may be the very one that was found
            if found not in (0, sequence.slot):
                self._copies.append((found, sequence.slot))
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
            if self._recurrent:
                count = self._cut(sequence, count)
            if count and sequence in self.running and self._grow(sequence, count):
                work.append(Work(sequence, count))
        return [item for item in work if item.sequence in self.running]

    def _cut(self, sequence: Sequence, count: int) -> int:
        """So that a chunk ends where the tree can be given the state, if it comes so far."""
        computed, stop = sequence.computed, self._stop(sequence)
        if computed >= stop:
            return count
        end = min(computed + count, stop)
        aligned = end // self.limits.page * self.limits.page
        return (aligned if aligned > computed else end) - computed

    def _grow(self, sequence: Sequence, count: int) -> bool:
        """Pages for the next `count` tokens, taken from the youngest where need be.

        False if the sequence itself was the youngest and had to go.
        """
        needed = self._pages(sequence.computed + count)
        for group, table in enumerate(sequence.pages):
            while len(table) < needed:
                page = self._cache.take(group)
                if page:
                    table.append(page)
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
        self.preemptions += 1

    def _release(self, sequence: Sequence) -> None:
        for table, blocks in zip(sequence.pages, self._cache.blocks, strict=True):
            for page in table[len(sequence.path) :]:
                blocks.give_back(page)
        self._cache.leave(sequence.path, sequence.firsts)
        if sequence.slot:
            self._cache.slots.give_back(sequence.slot)
        sequence.pages, sequence.path, sequence.slot = [], [], 0

    def _pages(self, tokens: int) -> int:
        return -(-tokens // self.limits.page)


def _alike(one: Sequence, other: Sequence, count: int) -> bool:
    """Whether they could share the pages of so many tokens."""
    return one.salt == other.salt and one.tokens[:count] == other.tokens[:count]
