"""The free list of pages, or of state slots: each is free, a sequence's alone, or the tree's."""

from collections import deque


class PageAllocator:
    """Hands out pages 1 to `total`; page 0 is the null page, which padding points at."""

    def __init__(self, total: int) -> None:
        self._free = deque(range(1, total + 1))
        self._taken: set[int] = set()

    @property
    def free(self) -> int:
        return len(self._free)

    def allocate(self) -> int:
        """Take a free page; the caller has checked that there is one."""
        page = self._free.popleft()
        self._taken.add(page)
        return page

    def release(self, page: int) -> None:
        self._taken.remove(page)  # a page released twice would be shared by two writers: fail
        self._free.append(page)
