"""The owner of pages and state slots: it allocates, shares, copies and releases them (pure)."""

from collections.abc import Iterable

from .cache_sizes import CacheSizes, first_seen, max_held
from .page_allocator import PageAllocator
from .prefix_cache import STATES, Node, PrefixCache
from .sequence import Holdings, Sequence

SAVED = 512  # the fewest tokens of a prompt between two states that the tree is given


class Pager:
    """The page tables, one a cache group, and the state slot of each sequence that runs.

    Full pages are shared through the tree, which is given copies of states at the ends of pages.
    Copies are made in their order, before the next step. Sizes are in tokens: `page`, and `chunk`,
    the most that a step computes of a sequence.
    """

    def __init__(self, sizes: CacheSizes, page: int, chunk: int) -> None:
        self.sizes = sizes
        self.pages_total = sum(sizes.pages)
        self.pools = tuple(PageAllocator(count) for count in (*sizes.pages, sizes.states))
        self.tree = PrefixCache(sizes, page, self.pools)
        self._page = page
        self._chunk = chunk
        self._copies: list[tuple[int, int]] = []

    @property
    def pages_free(self) -> int:
        """Pages of all groups that no running sequence uses."""
        return sum(self.available(group) for group in range(len(self.sizes.pages)))

    @property
    def states_free(self) -> int:
        """State slots that no running sequence uses."""
        return self.available(STATES)

    def available(self, group: int) -> int:
        """Count the pages that could be allocated, if need be after an eviction."""
        return self.pools[group].free + self.tree.idle(group)

    def allocate(self, group: int) -> int:
        """Take a page, or a state slot, for one sequence alone; 0 where all are in use."""
        pool = self.pools[group]
        return pool.allocate() if pool.free or self.tree.evict(group) else 0

    def match(self, sequence: Sequence) -> Holdings:
        """Find what the tree has of a waiting sequence's tokens, all but the last of them."""
        # Else every position is computed.
        matches = sequence.is_shared and sequence.request.prompt_logprobs is None
        full = (len(sequence.tokens) - 1) // self._page if matches else 0
        keys = [sequence.page_key(index, self._page) for index in range(full)]
        path = self.tree.match(sequence.salt, keys)
        matched = len(path) * self._page
        firsts = [first_seen(window, matched, self._page) for window in self.sizes.windows]
        return Holdings([], firsts, path, begun=len(sequence.tokens), saved=matched)

    def fits(self, match: Holdings) -> bool:
        """Return whether a sequence that starts with the match could compute all its tokens."""
        for group, (window, first) in enumerate(zip(self.sizes.windows, match.firsts, strict=True)):
            shared, needed = match.path[first:], -(-(match.begun + 1) // self._page) - first
            if window is not None:
                needed = min(needed, max_held(window, self._chunk, self._page))
            # Idle pages that the match itself will use are not available.
            reserved = sum(not node.users[group] for node in shared)
            if needed - len(shared) > self.available(group) - reserved:
                return False
        return not self.sizes.states or self.states_free > 0

    def start(self, sequence: Sequence, match: Holdings) -> None:
        """Give a waiting sequence its match's pages, and a state slot with a copy of its state."""
        self.tree.enter(match.path, match.firsts)
        match.tables = [
            [0] * first + [node.pages[group] for node in match.path[first:]]
            for group, first in enumerate(match.firsts)
        ]
        sequence.computed, sequence.pages = match.saved, match
        if self.sizes.states:
            source = match.path[-1].state if match.path else 0
            match.state_slot = self.allocate(STATES)  # may be the very one that was matched
            if source not in (0, match.state_slot):
                self._copies.append((source, match.state_slot))

    def grow(self, sequence: Sequence, count: int) -> bool:
        """Allocate pages for the next `count` tokens; False where there are too few.

        What could be allocated stays with the sequence: it may be asked for again.
        """
        needed = -(-(sequence.computed + count) // self._page)
        for group, table in enumerate(sequence.pages.tables):
            while len(table) < needed:
                page = self.allocate(group)
                if not page:
                    return False
                table.append(page)
        return True

    def commit(self, sequence: Sequence, count: int) -> None:
        """Count the next tokens as computed: share full pages, release what nobody sees."""
        sequence.computed += count
        self._leave_behind(sequence)
        if not sequence.is_shared:
            return
        for index in range(len(sequence.pages.path), sequence.computed // self._page):
            self._share(sequence, index)
        if self.sizes.states and not sequence.computed % self._page:
            self._save(sequence)

    def judge(self, deepest: Node, sound: bool) -> None:
        """Vouch for a sequence's pages in the tree, up to that node, by its logits; or cut off."""
        (self.tree.vouch if sound else self.tree.cut_off)(deepest)

    def release(self, sequence: Sequence) -> None:
        """Take back everything that a sequence holds; its full pages stay in the tree."""
        held = sequence.pages
        for table, first, pool in zip(held.tables, held.firsts, self.pools, strict=False):
            for page in table[max(len(held.path), first) :]:
                pool.release(page)
        self.tree.leave(held.path, held.firsts)
        if held.state_slot:
            self.pools[STATES].release(held.state_slot)
        sequence.pages, sequence.computed = Holdings(), 0

    def take_copies(self) -> list[tuple[int, int]]:
        """Return the copies to make before the next step: from and to a state slot, in order."""
        copies, self._copies = self._copies, []
        return copies

    def cut(self, sequence: Sequence, count: int) -> int:
        """Shorten a prompt's chunk so that it ends where the tree can be given the state."""
        computed, stop = sequence.computed, self._stop(sequence)
        if not self.sizes.states or computed >= stop or not sequence.is_shared:
            return count
        end = min(computed + count, stop)
        aligned = end // self._page * self._page
        return (aligned if aligned > computed else end) - computed

    def next_shared(self, sequence: Sequence) -> int:
        """Count the tokens after which a prompt in progress can next be found; 0: no more."""
        held, size = sequence.pages, self._page
        if not sequence.is_shared:
            return 0
        if not self.sizes.states:
            soon = (len(held.path) + 1) * size
            return soon if soon <= len(sequence.tokens) else 0
        far = (held.saved + SAVED + self._chunk) // size * size
        soon = min(far, self._stop(sequence))
        return soon if soon > sequence.computed else 0

    def follows(self, sequence: Sequence) -> bool:
        """Return whether what a waiting sequence follows will soon share more with it."""
        if sequence.leader is None:
            return False
        leader, common = sequence.leader
        if leader.pending <= 1 or not leader.pages.tables:
            return False
        soon = self.next_shared(leader)
        return 0 < soon <= common and soon < len(sequence.tokens)

    def follow(self, sequence: Sequence, matched: int, running: Iterable[Sequence]) -> bool:
        """Let a sequence wait for a running prompt that will soon share more than was matched."""
        sequence.leader = None
        if sequence.request.prompt_logprobs is not None or not sequence.is_shared:
            return False
        for other in running:
            if other.pending > 1:
                soon = self.next_shared(other)
                if matched < soon < len(sequence.tokens) and sequence.alike(other, soon):
                    common = sequence.common_pages(other, self._page) * self._page
                    sequence.leader = other, common
                    return True
        return False

    def _leave_behind(self, sequence: Sequence) -> None:
        """Release the pages that no later token sees."""
        held = sequence.pages
        for group, window in enumerate(self.sizes.windows):
            table, last = held.tables[group], first_seen(window, sequence.computed, self._page)
            for index in range(held.firsts[group], last):
                if index < len(held.path):
                    self.tree.let_go(held.path[index], group)
                else:
                    self.pools[group].release(table[index])
                table[index] = 0
            held.firsts[group] = last

    def _share(self, sequence: Sequence, index: int) -> None:
        """Give the tree a full page."""
        path, tables = sequence.pages.path, sequence.pages.tables
        parent = path[-1] if path else self.tree.root(sequence.salt)
        private = [table[index] for table in tables]
        node = self.tree.insert(parent, sequence.page_key(index, self._page), private)
        for group, page in enumerate(private):
            if page:
                tables[group][index] = node.pages[group]
        path.append(node)

    def _save(self, sequence: Sequence) -> None:
        """Give the tree the state at the end of a page, unless within a prompt and too soon.

        An answer's replaces the one before, which another sequence may have to compute again.
        """
        computed, held = sequence.computed, sequence.pages
        if computed < self._stop(sequence) and computed - held.saved < SAVED:
            return
        node, mark, answering = held.path[-1], held.mark, computed > held.begun
        if answering and mark and mark.state and not mark.reused:
            self.tree.forget(mark)
        held.saved, held.mark = computed, None
        if node.state:
            self.tree.touch(node)
        elif state_slot := self.allocate(STATES):
            self.tree.save(node, state_slot)
            self._copies.append((held.state_slot, state_slot))
            held.mark = node if answering else None

    def _stop(self, sequence: Sequence) -> int:
        """Return the end of the last page that a prompt like this one could find in the tree."""
        return (sequence.pages.begun - 1) // self._page * self._page
