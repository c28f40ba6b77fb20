"""The free list of KV pages: a page is free, private to a sequence, or the prefix tree's."""

from collections import deque


class Blocks:
    """`count` pages, of which page 0 is never handed out: padding points at it."""

    def __init__(self, count: int) -> None:
        self.total = count - 1
        self._free = deque(range(1, count))
        self._taken: set[int] = set()

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self) -> int:
        """A free page; the caller has checked that there is one."""
        page = self._free.popleft()
        self._taken.add(page)
        return page

    def give_back(self, page: int) -> None:
        self._taken.remove(page)  # a page given back twice would be shared by two writers: fail
        self._free.append(page)
