"""The radix tree of full, accepted pages: what one prompt computed, the next one finds.

Rule 1: a page in the tree is immutable. Rule 2: who reads a node's page of full attention reads all
its ancestors', and lets go of the deepest first. So, in the order in which those pages fell idle, a
node always comes after its descendants, and the least recently used one is a leaf: eviction needs
no search. Pages of windows and states are evicted alone: the node stays while it has anything.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from .blocks import Blocks
from .room import Room, first_seen


@dataclass(slots=True, eq=False)
class Node:
    """The tokens of one page, keyed below its parent by their bytes, and what is kept of them.

    `pages` and `users` (running sequences that read the page) have an entry a group; page 0 and
    state 0 are none. The state is that after the last token.
    """

    key: bytes
    parent: "Node | None"
    pages: list[int]
    users: list[int]
    state: int = 0
    found: bool = False  # a sequence began with the state
    guests: int = 0  # running sequences whose last full page this is
    children: dict[bytes, "Node"] = field(default_factory=dict)


class PrefixCache:
    """Pages and states by (salt, tokens before, tokens within), kept as long as there is room."""

    def __init__(self, room: Room, page: int) -> None:
        self.room = room
        self._plain = room.windows == (None,) and not room.states
        self.blocks = tuple(Blocks(count + 1) for count in room.pages)
        self.slots = Blocks(room.states + 1)
        self._page = page
        self._roots: dict[bytes, Node] = {}  # by salt
        # By page and by slot, least recently used first.
        self._idle = tuple(OrderedDict[int, Node]() for _ in room.pages)
        self._states = OrderedDict[int, Node]()

    def spare(self, group: int) -> int:
        """How many pages could be taken."""
        return self.blocks[group].free + len(self._idle[group])

    @property
    def spare_slots(self) -> int:
        return self.slots.free + len(self._states)

    def take(self, group: int) -> int:
        """A page for one sequence alone; 0 where every page is in use."""
        blocks = self.blocks[group]
        return blocks.take() if blocks.free or self.evict(group) else 0

    def take_slot(self) -> int:
        """A slot for one sequence alone; 0 where all are in use."""
        return self.slots.take() if self.slots.free or self.evict_state() else 0

    def root(self, salt: str) -> Node:
        none, key = [0] * len(self.blocks), _bytes(salt)
        return self._roots.setdefault(key, Node(key, None, none, none))

    def match(self, salt: str, keys: Sequence[bytes]) -> list[Node]:
        """The longest chain with these keys that a sequence can go on from, not yet in its use."""
        node, path = self._roots.get(_bytes(salt)), list[Node]()
        for key in keys:
            node = node.children.get(key) if node else None
            if node is None:
                break
            path.append(node)
        return path if self._plain else path[: self._usable(path)]

    def _usable(self, path: Sequence[Node]) -> int:
        """After how many of the nodes there is all that the next token needs."""
        found, unbroken = 0, [0] * len(self.blocks)
        for count, node in enumerate(path, 1):
            enough = bool(node.state or not self.room.states)
            for group, window in enumerate(self.room.windows):
                unbroken[group] = unbroken[group] + 1 if node.pages[group] else 0
                needed = count - first_seen(window, count * self._page, self._page)
                enough = enough and unbroken[group] >= needed
            found = count if enough else found
        return found

    def enter(self, path: Sequence[Node], firsts: Sequence[int]) -> None:
        """A sequence goes on from a match; of each group it reads the nodes from firsts[group]."""
        for group, first in enumerate(firsts):
            idle = self._idle[group]
            for node in path[first:]:
                node.users[group] += 1
                idle.pop(node.pages[group], None)
        if path:
            path[-1].guests += 1
            if path[-1].state:
                path[-1].found = True
                self._states.move_to_end(path[-1].state)

    def leave(self, path: Sequence[Node], firsts: Sequence[int]) -> None:
        """The reverse of `enter`, wherever the sequence has come to."""
        for group, first in enumerate(firsts):
            for index in range(len(path) - 1, first - 1, -1):
                self.let_go(path[index], group)
        if path:
            path[-1].guests -= 1
            self._prune(path[-1])

    def let_go(self, node: Node, group: int) -> None:
        """A sequence does not read the node's page any more."""
        node.users[group] -= 1
        if not node.users[group]:
            self._idle[group][node.pages[group]] = node

    def insert(self, parent: Node, key: bytes, pages: Sequence[int]) -> Node:
        """The node for a full page, where the caller stood at its parent; in use by the caller.

        pages: one a group, or 0 where the caller has none any more. Where the tree has those tokens
        already, that page is used and the caller's goes back to the free list: the caller reads
        the shared one from now on.
        """
        node = parent.children.get(key)
        if node is None:
            none = [0] * len(pages)
            node = parent.children[key] = Node(key, parent, none, none.copy())
        for group, page in enumerate(pages):
            if not page:
                continue
            if node.pages[group]:
                self.blocks[group].give_back(page)
                self._idle[group].pop(node.pages[group], None)
            else:
                node.pages[group] = page
            node.users[group] += 1
        node.guests += 1
        parent.guests -= parent.parent is not None
        return node

    def save(self, node: Node) -> int:
        """A slot for the state after a node, to be copied there; 0 where it has one, or none is."""
        if node.state:
            self._states.move_to_end(node.state)
            return 0
        slot = self.take_slot()
        if slot:
            node.state, node.found = slot, False
            self._states[slot] = node
        return slot

    def forget(self, node: Node) -> None:
        """Give the slot of a node's state back."""
        self._drop_state(node)
        self._prune(node)

    def evict(self, group: int) -> bool:
        """Give the least recently used idle page back; False when every page is in use."""
        if not self._idle[group]:
            return False
        node = next(iter(self._idle[group].values()))
        if self.room.windows[group] is not None:
            self._drop(node, group)
            self._prune(node)
            return True
        assert not node.children and not node.guests
        for each, page in enumerate(node.pages):
            if page:
                self._drop(node, each)
        if node.state:
            self._drop_state(node)
        self._prune(node)
        return True

    def evict_state(self) -> bool:
        """Give the least recently used slot of the tree back; False when it has none."""
        if not self._states:
            return False
        self.forget(next(iter(self._states.values())))
        return True

    def clear(self) -> int:
        """Evict every idle page and every state; how many pages there were."""
        count = sum(map(len, self._idle))
        for group in range(len(self.blocks)):
            while self.evict(group):
                pass
        while self.evict_state():
            pass
        return count

    def _drop(self, node: Node, group: int) -> None:
        """Give an idle page back."""
        page = node.pages[group]
        del self._idle[group][page]
        self.blocks[group].give_back(page)
        node.pages[group] = 0

    def _drop_state(self, node: Node) -> None:
        del self._states[node.state]
        self.slots.give_back(node.state)
        node.state = 0

    def _prune(self, node: Node) -> None:
        """A node that nothing is kept of, and nobody below or at it, is gone; its parents alike."""
        while node.parent is not None:
            if node.state or node.guests or node.children or any(node.pages):
                return
            del node.parent.children[node.key]
            node = node.parent
        if not node.children:
            self._roots.pop(node.key, None)


def _bytes(salt: str) -> bytes:
    return salt.encode(errors="surrogatepass")
