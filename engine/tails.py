"""Which tokens of decoding sequences wait outside an immutable pool, and when they go in (pure).

A step that only decodes reads the pool and writes tails: the latest pages of each row, apart. Tails
go on while the same sequences decode side by side. What is in them is brought into the pool when
one is full, and as soon as anything else runs: pages are shared, read and reused through the pool.
A page that a window has left is brought there too, for it may be found again until it is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass

GONE = 0  # the null page: what would go there is not wanted any more


@dataclass(frozen=True, slots=True)
class Move:
    """A page to be brought into the pool: number `part` of row `row`'s tail goes to page `into`."""

    row: int
    part: int
    into: int


@dataclass(frozen=True, slots=True)
class TailUpdate:
    """A step's change to the tails: its moves come first, then rows go on or begin anew.

    `starts` are the positions of each row's tail after the step; None where it has no tails.
    """

    moves: tuple[Move, ...]
    continued: bool
    starts: tuple[int, ...] | None


@dataclass(slots=True)
class TailRow:
    """One row's tail: the positions `start` to `stop` of a sequence."""

    sequence: int
    start: int
    stop: int
    pages: list[int]  # the pool's pages that the tail's belong into, in order


class Tails:
    """The tails of the step before; `page` tokens a page, `max_pages` pages a tail."""

    def __init__(self, page: int, max_pages: int) -> None:
        self._page = page
        self._max_pages = max_pages
        self._rows: list[TailRow] = []

    def update(
        self,
        sequences: Sequence[int],
        positions: Sequence[int],
        tables: Sequence[Sequence[int]],
        decoding: bool,
    ) -> TailUpdate:
        """Plan the tails of a step, which is `decoding` if each row is one token of its sequence.

        tables: the pages of each sequence in order; what follows the token's own does not matter.
        """
        if not decoding or not self._goes_on(sequences, positions):
            moves = self._all()
            self._rows = []
            if not decoding:
                return TailUpdate(moves, False, None)
            self._begin(sequences, positions, tables)
            return TailUpdate(moves, False, tuple(row.start for row in self._rows))
        added = self._added(tables)
        moves = self._follow(tables, {page for pages in added for page in pages})
        if any(row.stop - row.start == self._max_pages * self._page for row in self._rows):
            moves += self._full()
        for row, pages in zip(self._rows, added, strict=True):
            row.pages = [*row.pages, *pages]
            row.stop += 1
        return TailUpdate(moves, True, tuple(row.start for row in self._rows))

    def _goes_on(self, sequences: Sequence[int], positions: Sequence[int]) -> bool:
        now = list(zip(sequences, positions, strict=True))
        return bool(now) and [(row.sequence, row.stop) for row in self._rows] == now

    def _begin(
        self, sequences: Sequence[int], positions: Sequence[int], tables: Sequence[Sequence[int]]
    ) -> None:
        for sequence, position, table in zip(sequences, positions, tables, strict=True):
            first = position // self._page
            pages = list(table[first : first + 1])
            self._rows.append(TailRow(sequence, first * self._page, position + 1, pages))

    def _added(self, tables: Sequence[Sequence[int]]) -> list[list[int]]:
        """List the pages that each row's new token begins."""
        known = [row.start // self._page + len(row.pages) for row in self._rows]
        return [
            list(table[first : row.stop // self._page + 1])
            for row, table, first in zip(self._rows, tables, known, strict=True)
        ]

    def _follow(self, tables: Sequence[Sequence[int]], taken: set[int]) -> tuple[Move, ...]:
        """Give up pages that are not in their row's table any more.

        A full one that the tree had already was exchanged for that one, and needs no move. One that
        a window has left waits like the others, unless another row takes it: then it moves now.
        """
        moves = []
        for number, (row, table) in enumerate(zip(self._rows, tables, strict=True)):
            first = row.start // self._page
            now = table[first : first + len(row.pages)]
            for part, (old, new) in enumerate(zip(row.pages, now, strict=True)):
                if old not in (GONE, new) and (new != GONE or old in taken):
                    moves += [Move(number, part, old)] if new == GONE else []
                    row.pages[part] = GONE
        return tuple(moves)

    def _all(self) -> tuple[Move, ...]:
        rows = enumerate(self._rows)
        return tuple(move for number, row in rows for move in _moves(number, row.pages))

    def _full(self) -> tuple[Move, ...]:
        """Move every row's full pages; its tail then begins after them."""
        moves: list[Move] = []
        for number, row in enumerate(self._rows):
            full = (row.stop - row.start) // self._page
            moves += _moves(number, row.pages[:full])
            row.start += full * self._page
            row.pages = row.pages[full:]
        return tuple(moves)


def _moves(row: int, pages: Sequence[int]) -> list[Move]:
    return [Move(row, part, into) for part, into in enumerate(pages) if into != GONE]
