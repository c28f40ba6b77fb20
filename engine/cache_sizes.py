"""How much memory sequences share: pages of each cache group, and state slots."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheSizes:
    """The number of pages that each group has and of states, null page and state not counted.

    `windows` are ModelConfig's: the tokens that a group's layers see (None: all). `states` is 0
    where no layer keeps one.
    """

    windows: tuple[int | None, ...]
    pages: tuple[int, ...]
    states: int = 0


def first_seen(window: int | None, computed: int, page: int) -> int:
    """Return the first page that the token at position `computed`, or any later one, sees."""
    return 0 if window is None else max(0, computed + 1 - window) // page


def max_held(window: int, chunk: int, page: int) -> int:
    """Count the pages that a sequence can need at once, computing at most `chunk` tokens a step.

    Of n neighbouring tokens, here window + chunk - 1, some may lie on a page more than fills.
    """
    return -(-(window + chunk) // page) + 1
