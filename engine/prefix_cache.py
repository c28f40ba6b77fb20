"""The radix tree of full, accepted pages: what one prompt computed, the next one finds.

Rule 1: a page in the tree is immutable. Rule 2: who reads a node's page of full attention reads all
its ancestors', and lets go of the deepest first. So, in the order in which those pages fell idle, a
node always comes after its descendants, and the least recently used one is a leaf: eviction needs
no search. Pages of windows and states are evicted alone: the node stays while it has anything.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from .cache_sizes import CacheSizes, first_seen
from .page_allocator import PageAllocator

STATES = -1  # the last group is not of pages, but of state slots


@dataclass(slots=True, eq=False)
class Node:
    """The tokens of one page, keyed below its parent by their bytes, and their pages and state.

    `pages` and `users` (running sequences that read the page) have an entry a group; page 0 is
    none. The state is that after the last token, and is never read in place but copied.
    """

    key: Hashable  # of a root, which stands before the first page: the salt
    parent: "Node | None"
    pages: list[int]
    users: list[int]
    reused: bool = False  # a sequence began with the state
    guests: int = 0  # running sequences whose last full page this is
    sound: bool = False  # logits without NaN came of it
    children: dict[Hashable, "Node"] = field(default_factory=dict)

    @property
    def state(self) -> int:
        return self.pages[STATES]


class PrefixCache:
    """The pages and states by (salt, tokens before, tokens within), until they are evicted.

    It allocates nothing: what the pager hands it goes back to `pools`, an allocator a group.
    """

    def __init__(self, sizes: CacheSizes, page: int, pools: Sequence[PageAllocator]) -> None:
        self._sizes = sizes
        self._full = sizes.windows.index(None) if None in sizes.windows else None
        self._page = page
        self._pools = pools
        self._roots: dict[Hashable, Node] = {}
        # By page or state slot, least recently used first.
        self._idle = tuple(OrderedDict[int, Node]() for _ in pools)

    def idle(self, group: int) -> int:
        """Count the pages, or states, that could be evicted."""
        return len(self._idle[group])

    def root(self, salt: Hashable) -> Node:
        """Return the node before the first pages of a salt, which must be alike beside tokens."""
        none = [0] * len(self._pools)
        return self._roots.setdefault(salt, Node(salt, None, none, none))

    def match(self, salt: Hashable, keys: Sequence[bytes]) -> list[Node]:
        """Find the longest chain with these keys that a sequence can go on from, not yet in use."""
        node, path = self._roots.get(salt), list[Node]()
        for key in keys:
            node = node.children.get(key) if node else None
            if node is None:
                break
            path.append(node)
        plain = self._sizes.windows == (None,) and not self._sizes.states
        return path if plain else path[: self._usable(path)]

    def _usable(self, path: Sequence[Node]) -> int:
        """Count the nodes after which there is all that the next token needs."""
        usable, unbroken = 0, [0] * len(self._sizes.windows)
        for count, node in enumerate(path, 1):
            enough = bool(node.state or not self._sizes.states)
            for group, window in enumerate(self._sizes.windows):
                unbroken[group] = unbroken[group] + 1 if node.pages[group] else 0
                needed = count - first_seen(window, count * self._page, self._page)
                enough = enough and unbroken[group] >= needed
            usable = count if enough else usable
        return usable

    def enter(self, path: Sequence[Node], firsts: Sequence[int]) -> None:
        """Count in a sequence that goes on from a match; it reads each group from firsts[group]."""
        for group, first in enumerate(firsts):
            idle = self._idle[group]
            for node in path[first:]:
                node.users[group] += 1
                idle.pop(node.pages[group], None)
        if path:
            path[-1].guests += 1
            if path[-1].state:
                path[-1].reused = True
                self.touch(path[-1])

    def leave(self, path: Sequence[Node], firsts: Sequence[int]) -> None:
        """Reverse `enter`, wherever the sequence has come to."""
        for group, first in enumerate(firsts):
            for node in reversed(path[first:]):
                self.let_go(node, group)
        if path:
            path[-1].guests -= 1
            self._prune(path[-1])

    def let_go(self, node: Node, group: int) -> None:
        """Note that a sequence does not read the node's page any more."""
        node.users[group] -= 1
        if not node.users[group]:
            self._idle[group][node.pages[group]] = node

    def insert(self, parent: Node, key: bytes, pages: Sequence[int]) -> Node:
        """Return the node for a full page, now in use by the caller, who stood at its parent.

        pages: one a group, or 0 where the caller has none any more. Where the tree has those tokens
        already, that page is used and the caller's goes back to the free list: the caller reads
        the shared one from now on.
        """
        node = parent.children.get(key)
        if node is None:
            none = [0] * len(self._pools)
            node = parent.children[key] = Node(key, parent, none, none.copy())
        for group, page in enumerate(pages):
            if not page:
                continue
            if node.pages[group]:
                self._pools[group].release(page)
                self._idle[group].pop(node.pages[group], None)
            else:
                node.pages[group] = page
            node.users[group] += 1
        node.guests += 1
        parent.guests -= parent.parent is not None
        return node

    def vouch(self, node: Node) -> None:
        """Note that logits without NaN came of a node and of all before it."""
        while node.parent is not None and not node.sound:
            node.sound = True
            node = node.parent

    def cut_off(self, node: Node) -> None:
        """See that a node of which NaN came is never found again, nor what is as doubtful above."""
        while node.parent is not None and not node.sound:
            top, node = node, node.parent
            last = node.parent is None or node.sound
            if last and node.children.get(top.key) is top:
                del node.children[top.key]

    def save(self, node: Node, state_slot: int) -> None:
        """Keep the state after a node, which will be copied to the state slot; it had none."""
        node.pages[STATES], node.reused = state_slot, False
        self._idle[STATES][state_slot] = node

    def touch(self, node: Node) -> None:
        """Count the node's state as used just now."""
        self._idle[STATES].move_to_end(node.state)

    def forget(self, node: Node) -> None:
        """Give a node's state slot back."""
        self._drop(node, STATES)
        self._prune(node)

    def evict(self, group: int) -> bool:
        """Give the least recently used idle page back; False when every page is in use."""
        if not self._idle[group]:
            return False
        node = next(iter(self._idle[group].values()))
        assert group != self._full or not (node.children or node.guests)
        for each in range(len(node.pages)) if group == self._full else [group]:
            if node.pages[each]:
                self._drop(node, each)
        self._prune(node)
        return True

    def _drop(self, node: Node, group: int) -> None:
        """Give an idle page back."""
        page, node.pages[group] = node.pages[group], 0
        del self._idle[group][page]
        self._pools[group].release(page)

    def _prune(self, node: Node) -> None:
        """Remove a node that has nothing, and nobody at or below it; then its parents alike."""
        while node.parent is not None:
            if node.guests or node.children or any(node.pages):
                return
            if node.parent.children.get(node.key) is node:  # else it was cut off
                del node.parent.children[node.key]
            node = node.parent
        if not node.children:
            self._roots.pop(node.key, None)
