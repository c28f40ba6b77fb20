"""What sequences share: the pages of each cache group, and slots for recurrent states."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Room:
    """How many pages each group has, and how many states are kept, without those that are nobody's.

    `windows` are ModelConfig's: how many tokens a group's layers see (None: all). No `states`: no
    layer keeps one.
    """

    windows: tuple[int | None, ...]
    pages: tuple[int, ...]
    states: int = 0


def first_seen(window: int | None, computed: int, page: int) -> int:
    """The first page that the token at position `computed` sees, and so any that comes later."""
    return 0 if window is None else max(0, computed + 1 - window) // page


def most_held(window: int, chunk: int, page: int) -> int:
    """Pages that a sequence can need at a time where at most `chunk` tokens are computed at once.

    Of n neighbouring tokens, here window + chunk - 1, some may lie on a page more than fills.
    """
    return -(-(window + chunk) // page) + 1
