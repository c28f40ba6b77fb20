"""How much sequences share: the pages of each cache group, and slots for recurrent states."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheSizes:
    """How many pages each group has, and how many states there are, null page and slot apart.

    `windows` are ModelConfig's: how many tokens a group's layers see (None: all). No `states`: no
    layer keeps one.
    """

    windows: tuple[int | None, ...]
    pages: tuple[int, ...]
    states: int = 0


def first_seen(window: int | None, computed: int, page: int) -> int:
    """Give the first page that the token at position `computed`, or any later one, sees."""
    return 0 if window is None else max(0, computed + 1 - window) // page


def max_held(window: int, chunk: int, page: int) -> int:
    """Count the pages that a sequence can need at once, computing at most `chunk` tokens a step.

    Of n neighbouring tokens, here window + chunk - 1, some may lie on a page more than fills.
    """
    return -(-(window + chunk) // page) + 1
