"""Tests of engine/tails.py: whatever the schedule, each token is where attention looks for it."""

import itertools
import random

import pytest

from bessemer.engine.cache_sizes import first_seen
from bessemer.engine.tails import GONE, Move, Tails

PAGE, MOST = 4, 2


class World:
    """A pool and tails of token names; obeys updates as the runner and the kernels do."""

    def __init__(self, window: int | None = None) -> None:
        self.window = window
        self.tails = Tails(PAGE, MOST)
        self.pool: dict[tuple[int, int], str] = {}  # page and offset
        self.rows: list[dict[int, str]] = []  # position to token, a row each
        self.starts: list[int] = []

    def step(self, rows: list[tuple[int, int, list[int]]], decoding: bool = True) -> None:
        """rows: sequence, position of its token, table."""
        sequences, positions, tables = (list(part) for part in zip(*rows, strict=True))
        padded = [table + [0] * (12 - len(table)) for table in tables]
        update = self.tails.update(sequences, positions, padded, decoding)
        for move in update.moves:
            first = self.starts[move.row] + move.part * PAGE
            for offset in range(PAGE):
                token = self.rows[move.row].get(first + offset)
                self.pool[move.into, offset] = token or "garbage"
        old = self.rows if update.continued else []
        self.rows, self.starts = [], list(update.starts or ())
        for number, (sequence, position, table) in enumerate(rows):
            name = f"{sequence}.{position}"
            if update.starts is None:
                self.pool[table[position // PAGE], position % PAGE] = name
                continue
            start = update.starts[number]
            assert start % PAGE == 0 and 0 <= position - start < MOST * PAGE
            tail = {
                p: old[number][p] if update.continued else self.pool[table[p // PAGE], p % PAGE]
                for p in range(start, position)
            }
            self.rows.append(tail | {position: name})
            self.check(number, sequence, position, table)

    def check(self, number: int, sequence: int, position: int, table: list[int]) -> None:
        """Assert that all that row `number` attends to is its own sequence, token by token."""
        for p in range(
            0 if self.window is None else max(0, position + 1 - self.window), position + 1
        ):
            held = self.rows[number].get(p)
            token = held if held is not None else self.pool[table[p // PAGE], p % PAGE]
            assert token == f"{sequence}.{p}", (sequence, position, p)


def test_a_sequence_alone_fills_tail_after_tail() -> None:
    world, table = World(), [7, 3, 9, 4, 8]
    for position in range(5 * PAGE):
        world.step([(1, position, table[: position // PAGE + 1])])
    world.step([(2, 0, [5])])  # another takes over: all that was kept is in the pool now
    for p in range(5 * PAGE):
        assert world.pool[table[p // PAGE], p % PAGE] == f"1.{p}"


def test_full_tails_are_emptied_together_and_seldom() -> None:
    tails, moves = Tails(PAGE, MOST), []
    for step in range(8 * PAGE):
        positions = [step, step + 1, step + 2, step + 3]
        tables = [
            [100 * row + i + 1 for i in range(p // PAGE + 1)] for row, p in enumerate(positions)
        ]
        moves.append(tails.update([1, 2, 3, 4], positions, tables, True).moves)
    busy = [step for step, done in enumerate(moves) if done]
    assert all(b - a >= PAGE for a, b in itertools.pairwise(busy)) and len(busy) <= 8


def test_a_page_that_was_exchanged_for_a_shared_one_is_left_alone() -> None:
    tails = Tails(PAGE, MOST)
    for position in range(PAGE):
        tails.update([1], [position], [[5]], True)
    tails.update([1], [PAGE], [[6, 2]], True)  # page 5 was given back; another had the same tokens
    assert tails.update([9], [0], [[4]], True).moves == (Move(0, 1, 2),)
    assert GONE == 0


def test_nothing_but_decoding_leaves_no_tails() -> None:
    tails = Tails(PAGE, MOST)
    assert tails.update([1, 2], [0, 1], [[1], [2]], False).starts is None
    assert tails.update([1, 2], [1, 2], [[1], [2]], True).starts == (0, 0)
    update = tails.update([1, 2], [2, 3], [[1], [2]], False)
    assert update.moves == (Move(0, 0, 1), Move(1, 0, 2)) and not update.continued


def test_a_page_that_a_window_left_is_kept_until_another_takes_it() -> None:
    tails = Tails(PAGE, MOST)
    for position in range(PAGE):
        tails.update([1, 2], [position, position], [[5], [6]], True)
    left = tails.update([1, 2], [PAGE, PAGE], [[0, 7], [0, 8]], True)
    assert left.moves == () and left.starts == (0, 0)
    for position in range(PAGE + 1, 2 * PAGE):
        tails.update([1, 2], [position, position], [[0, 7], [0, 8]], True)
    full = tails.update([1, 2], [2 * PAGE, 2 * PAGE], [[0, 7, 6], [0, 8, 9]], True)
    assert full.moves[0] == Move(1, 0, 6)
    assert set(full.moves[1:]) == {Move(0, 0, 5), Move(0, 1, 7), Move(1, 1, 8)}


@pytest.mark.parametrize("window", [None, 1, 3, 6, 11])
@pytest.mark.parametrize("seed", range(10))
def test_any_schedule(seed: int, window: int | None) -> None:
    """Sequences come, pause, leave and take one another's pages, and those that windows left.

    What windows left can be found again whenever anything but decoding runs.
    """
    rng, world = random.Random(seed), World(window)
    left: dict[int, tuple[int, int]] = {}  # pages, with the sequence and the place they had
    free, known, number = list(range(1, 60)), {}, 0
    for _ in range(300):
        if len(known) < 4 and rng.random() < 0.1:
            number += 1
            known[number] = (0, [])
        if known and rng.random() < 0.05:
            free += filter(None, known.pop(rng.choice(list(known)))[1])
        chosen = [s for s in known if rng.random() < 0.97]
        rows = []
        for sequence in chosen:
            position, table = known[sequence]
            if position // PAGE == len(table):
                latest = rng.random() < 0.5  # what a window just left, it may be
                table.append(free.pop(-1 if latest else rng.randrange(len(free))))
                left.pop(table[-1], None)
            rows.append((sequence, position, list(table)))
            known[sequence] = (position + 1, table)
            for index in range(first_seen(window, position + 1, PAGE)):
                if table[index]:
                    free.append(table[index])
                    left[table[index]] = sequence, index
                table[index] = GONE
        finished = [s for s in known if known[s][0] > 40]
        if rows:
            decoding = rng.random() < 0.9
            leaving = {} if decoding else dict(left)
            world.step(rows, decoding)
            for page, (sequence, index) in leaving.items():
                held = [world.pool[page, offset] for offset in range(PAGE)]
                assert held == [f"{sequence}.{index * PAGE + offset}" for offset in range(PAGE)]
        for sequence in finished:
            free += filter(None, known.pop(sequence)[1])
