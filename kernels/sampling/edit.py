"""Edits change single logits of a step before the draw: biases, bans and penalties."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import mlx.core as mx
import numpy as np

from ..cpu.library import ARRAY, INT, Function, ready
from ..registry import Operation, in_c

BIAS, PENALTY, LESS = range(3)  # columns of an edit's changes


class EditTable:
    """A row's edits in the order of their ids, no id twice: `changes` are (entries, 3) float32.

    The bias is added, the sum divided by the penalty where positive and else multiplied by it, and
    `less` taken off. Ids outside the logits are passed over. A table that is kept as it is goes to
    the device once.
    """

    def __init__(self, ids: np.ndarray, changes: np.ndarray) -> None:
        order = np.argsort(ids, kind="stable")
        self._ids = np.ascontiguousarray(ids[order], np.int32)
        self._changes = np.ascontiguousarray(changes[order], np.float32)
        self._count = len(ids)

    @classmethod
    def empty(cls) -> "EditTable":
        return cls(np.zeros(0), np.zeros((0, 3)))

    def __len__(self) -> int:
        return self._count

    @property
    def ids(self) -> np.ndarray:
        return self._ids[: self._count]

    @property
    def changes(self) -> np.ndarray:
        return self._changes[: self._count]

    @cached_property
    def arrays(self) -> tuple[mx.array, mx.array]:
        """The ids and the changes on the device, of a table that nobody changes any more."""
        return mx.array(self.ids), mx.array(self.changes)

    def put(self, token: int, bias: float, penalty: float, less: float) -> None:
        """Set a token's edit."""
        place = int(np.searchsorted(self.ids, token))
        if place == self._count or self._ids[place] != token:
            self._open(place)
            self._ids[place] = token
        self._changes[place] = bias, penalty, less

    def penalty(self, token: int) -> float:
        place = int(np.searchsorted(self.ids, token))
        found = place < self._count and self._ids[place] == token
        return float(self._changes[place, PENALTY]) if found else 1.0

    def copy(self) -> "EditTable":
        return EditTable(self.ids, self.changes)

    def inside(self, size: int) -> slice:
        """Return where the ids of so many logits are."""
        return slice(*np.searchsorted(self.ids, (0, size)).tolist())

    def _open(self, place: int) -> None:
        """Make room for another edit there."""
        count = self._count
        if count == len(self._ids):
            grown = 2 * count + 8
            self._ids = np.resize(self._ids, grown)
            self._changes = np.resize(self._changes, (grown, 3))
        self._ids[place + 1 : count + 1] = self._ids[place:count]
        self._changes[place + 1 : count + 1] = self._changes[place:count]
        self._count += 1


@dataclass(frozen=True, slots=True)
class Edits:
    """A step's edits by row: those that last, and those of this step, which count instead."""

    lasting: Mapping[int, EditTable] = field(default_factory=dict)
    latest: Mapping[int, EditTable] = field(default_factory=dict)

    def of_rows(self, rows: int) -> Iterator[tuple[int, EditTable]]:
        """Yield the tables of so many rows with their rows; of one row, what counts is last."""
        for tables in (self.lasting, self.latest):
            yield from ((row, table) for row, table in tables.items() if 0 <= row < rows)


def _is_edited(logits: mx.array, edits: Edits) -> int:
    return logits.size and len(edits.lasting) + len(edits.latest)


@in_c("op_edit", ARRAY, ARRAY, *(INT,) * 3, ARRAY, ARRAY, takes=_is_edited)
def _edit_c(native: Function, logits: mx.array, edits: Edits) -> mx.array:
    logits = ready(logits)
    edited = mx.array(np.asarray(logits))
    for row, table in edits.of_rows(len(logits)):
        if len(table):
            native(edited, logits, row, logits.shape[1], len(table), table.ids, table.changes)
    return edited


def edit_reference(logits: mx.array, edits: Edits) -> mx.array:
    """Compute the definition."""
    edited = mx.array(logits)
    for row, table in edits.of_rows(len(logits)):
        inside = table.inside(logits.shape[1])
        ids, changes = mx.array(table.ids[inside]), mx.array(table.changes[inside])
        if ids.size:
            new, penalty = logits[row, ids] + changes[:, BIAS], changes[:, PENALTY]
            edited[row, ids] = mx.where(new > 0, new / penalty, new * penalty) - changes[:, LESS]
    return edited


def edits_of(
    rows: Sequence[int] | np.ndarray,
    ids: np.ndarray,
    *changes: np.ndarray,
) -> Edits:
    """Return edits that last, from columns: rows, ids, biases, penalties and what is taken off."""
    each, table = np.asarray(rows), np.stack(changes, axis=1)
    owners = np.unique(each).tolist()
    return Edits({int(row): EditTable(ids[each == row], table[each == row]) for row in owners})


# (rows, vocabulary) float32 alike; the logits given stay as they are.
edit = Operation("edit", edit_reference, edit_reference, _edit_c)
