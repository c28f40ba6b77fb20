"""The radix tree of full, accepted pages: what one prompt computed, the next one finds.

Rule 1: a page in the tree is immutable. Rule 2: who uses a node uses all its ancestors, and lets go
of the deepest first. So, in the order in which nodes fell idle, a node always comes after its
descendants, and the least recently used idle node is a leaf: eviction needs no search.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from .blocks import Blocks


@dataclass(slots=True, eq=False)
class Node:
    """One page, keyed below its parent by the bytes of its tokens."""

    page: int
    key: bytes
    parent: "Node | None"
    children: dict[bytes, "Node"] = field(default_factory=dict)
    users: int = 0


class PrefixCache:
    """Pages by (salt, tokens before, tokens within), kept as long as there is room."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._roots: dict[str, Node] = {}
        self._idle: OrderedDict[int, Node] = OrderedDict()  # by page, least recently used first

    @property
    def idle(self) -> int:
        """How many pages could be evicted."""
        return len(self._idle)

    def root(self, salt: str) -> Node:
        return self._roots.setdefault(salt, Node(page=0, key=b"", parent=None))

    def match(self, salt: str, keys: list[bytes]) -> list[Node]:
        """The longest chain of cached pages with these keys, not yet in use by the caller."""
        node, path = self.root(salt), []
        for key in keys:
            child = node.children.get(key)
            if child is None:
                break
            path.append(child)
            node = child
        return path

    def use(self, path: list[Node]) -> None:
        for node in path:
            node.users += 1
            self._idle.pop(node.page, None)

    def let_go(self, path: list[Node]) -> None:
        for node in reversed(path):
            node.users -= 1
            if not node.users:
                self._idle[node.page] = node

    def insert(self, parent: Node, key: bytes, page: int) -> Node:
        """The node for a full page, in use by the caller.

        Where the tree has those tokens already, that node is used and `page` goes back to the
        free list: the caller reads the shared page from now on.
        """
        node = parent.children.get(key)
        if node is None:
            node = parent.children[key] = Node(page, key, parent)
        else:
            self._blocks.give_back(page)
        self.use([node])
        return node

    def evict(self) -> bool:
        """Give the least recently used idle page back; False when every page is in use."""
        if not self._idle:
            return False
        _, node = self._idle.popitem(last=False)
        assert node.parent is not None and not node.children
        del node.parent.children[node.key]
        self._blocks.give_back(node.page)
        return True

    def clear(self) -> int:
        """Evict every idle page; how many there were."""
        count = len(self._idle)
        while self.evict():
            pass
        return count
